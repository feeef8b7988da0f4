// Fast mock OpenAI-compatible upstream: one thread, epoll, HTTP/1.1 keep-alive.
// cc -O2 -o mock_upstream mock_upstream.c ; ./mock_upstream PORT
// Behaviour is chosen by the "model" value in the request body (gateways forward it):
//   mock            immediate ~1 kB JSON answer
//   mock-d50        the answer after 50 ms (for streams: delay before the first chunk)
//   ...-g10-n50     with "stream":true: gap of 10 ms between chunks, 50 chunks
//   mock-e503       answers that status at once
//                   without "stream":true: the whole answer when the last chunk would have come
//   mock-j          the content is JSON: {"intent": "refund", "stamps": [...], "reason": ...}, whole or in pieces
//   mock-j-x10      every 10th answer is JSON that does not fit: the intent is a number
// Stream chunks carry the send time in ns (CLOCK_MONOTONIC) in delta.content as "t<ns> ".
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#define MAXC 8192
#define BUF (1 << 20)
typedef struct { char *buf; int len; uint32_t gen; int open, pending, stream, left, total, json, wrong; int64_t gap; } Conn;
static Conn conns[MAXC];
typedef struct { int64_t at; int fd; uint32_t gen; } Timer;
static Timer heap[MAXC * 4]; static int nheap; static int tfd, ep; static int64_t armed;
static char answer[3][4096]; static int answer_len[3]; static long served;   // text, JSON, wrong JSON
static int64_t now_ns(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000LL + t.tv_nsec; }
static void arm(void) {
  if (!nheap || heap[0].at == armed) return;
  armed = heap[0].at; struct itimerspec s = {0};
  s.it_value.tv_sec = armed / 1000000000LL; s.it_value.tv_nsec = armed % 1000000000LL;
  timerfd_settime(tfd, TFD_TIMER_ABSTIME, &s, 0);
}
static void push(int64_t at, int fd) {
  if (nheap >= MAXC * 4) return;
  int i = nheap++; Timer t = {at, fd, conns[fd].gen};
  while (i && heap[(i - 1) / 2].at > at) { heap[i] = heap[(i - 1) / 2]; i = (i - 1) / 2; }
  heap[i] = t;
}
static Timer pop(void) {
  Timer r = heap[0], l = heap[--nheap]; int i = 0;
  for (;;) { int c = 2 * i + 1; if (c >= nheap) break; if (c + 1 < nheap && heap[c + 1].at < heap[c].at) c++;
    if (heap[c].at >= l.at) break; heap[i] = heap[c]; i = c; }
  heap[i] = l; return r;
}
static void drop(int fd) { Conn *c = &conns[fd]; if (!c->open) return; c->open = 0; c->gen++; free(c->buf); c->buf = 0; close(fd); }
static int put(int fd, const char *p, int n) {
  while (n > 0) { int w = send(fd, p, n, MSG_NOSIGNAL);
    if (w < 0) { if (errno == EAGAIN) { struct pollfd q = {fd, POLLOUT, 0}; poll(&q, 1, 1000); continue; } drop(fd); return -1; }
    p += w; n -= w; }
  return 0;
}
static int chunk(char *out, const char *data, int n) { int h = sprintf(out, "%x\r\n", n); memcpy(out + h, data, n); memcpy(out + h + n, "\r\n", 2); return h + n + 2; }
static const char *SSEH = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";
static char *stamped;
static void stamp(void) { int64_t t = now_ns(); for (int i = 15; i >= 0; i--, t /= 10) stamped[i] = '0' + t % 10; }
static void serve(int fd);
static void fire(int fd) {             // a timer of this connection is due (or no delay)
  Conn *c = &conns[fd];
  if (!c->stream) { int k = c->json ? c->wrong ? 2 : 1 : 0; c->pending = 0; if (k == 1) stamp(); put(fd, answer[k], answer_len[k]); return; }
  char body[1024], out[2048]; int o = 0;
  do {
    o = 0;
    if (c->left == c->total) { o = strlen(SSEH); memcpy(out, SSEH, o); }
    if (c->left > 0) {
      int first = c->left == c->total, last = c->left == 1;
      int n = sprintf(body, "data: {\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"mock\",\"choices\":[{\"index\":0,\"delta\":{%s\"content\":\"%st%lld%s\"},\"finish_reason\":null}]}\n\n",
        first ? "\"role\":\"assistant\"," : "", !c->json ? "" : first ? "{\\\"intent\\\":\\\"refund\\\",\\\"stamps\\\":[\\\"" : ",\\\"", (long long)now_ns(), !c->json ? " " : last ? "\\\"]}" : "\\\"");
      o += chunk(out + o, body, n); c->left--;
    }
    if (c->left == 0) {
      int n = sprintf(body, "data: {\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"mock\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n");
      o += chunk(out + o, body, n); memcpy(out + o, "0\r\n\r\n", 5); o += 5;
      c->pending = 0; c->stream = 0; put(fd, out, o); return;
    }
    if (put(fd, out, o) < 0) return;
  } while (c->gap == 0);
  push(now_ns() + c->gap, fd);
}
static int64_t opt(const char *m, const char *end, char k, int64_t dflt) {
  for (; m + 1 < end && *m != '"'; m++) if (m[0] == '-' && m[1] == k) return atoll(m + 2);
  return dflt;
}
static void serve(int fd) {            // as many whole requests as are buffered
  Conn *c = &conns[fd];
  while (c->open && !c->pending && c->len > 0) {
    c->buf[c->len] = 0;
    char *e = memmem(c->buf, c->len, "\r\n\r\n", 4); if (!e) return;
    int hl = e + 4 - c->buf, used; *e = 0;
    char *cl = strcasestr(c->buf, "\r\ncontent-length:"), *te = strcasestr(c->buf, "\r\ntransfer-encoding: chunked"), *b = c->buf + hl, *be;
    if (te) { char *z = memmem(b, c->len - hl, "0\r\n\r\n", 5); if (!z) { *e = '\r'; return; } be = z; used = z + 5 - c->buf; }
    else { int n = cl ? atoi(cl + 17) : 0; if (c->len < hl + n) { if (strcasestr(c->buf, "\r\nexpect: 100")) put(fd, "HTTP/1.1 100 Continue\r\n\r\n", 25); *e = '\r'; return; } be = b + n; used = hl + n; }
    if (!strncmp(c->buf, "GET", 3) || b == be) {
      const char *g = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 66\r\n\r\n{\"object\":\"list\",\"data\":[{\"id\":\"mock\",\"object\":\"model\",\"created\":1}]}";
      char tmp[256]; const char *bd = strstr(g, "\r\n\r\n") + 4; int t = sprintf(tmp, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", (int)strlen(bd), bd); put(fd, tmp, t);
    } else {
      char *m = memmem(b, be - b, "\"mock", 5); int64_t d = 0, err = 0;
      c->stream = memmem(b, be - b, "\"stream\":true", 13) || memmem(b, be - b, "\"stream\": true", 14);
      c->gap = 0; c->total = 50; c->json = c->wrong = 0;
      if (m) { d = opt(m + 1, be, 'd', 0); c->gap = opt(m + 1, be, 'g', 0) * 1000000; c->total = opt(m + 1, be, 'n', 50); err = opt(m + 1, be, 'e', 0); c->json = opt(m + 1, be, 'j', -1) >= 0; int64_t x = opt(m + 1, be, 'x', 0); c->wrong = x > 0 && ++served % x == 0; }
      c->left = c->total; c->pending = 1;
      if (err) { char t[256]; int n = sprintf(t, "HTTP/1.1 %d Mock\r\nContent-Type: application/json\r\nContent-Length: 60\r\n\r\n%-60s", (int)err, "{\"error\":{\"message\":\"mock error\",\"type\":\"mock\",\"code\":null}}"); c->pending = 0; c->stream = 0; put(fd, t, n); }
      if (!c->stream && !err && c->gap) d += c->gap * (c->total - 1) / 1000000;
      if (err) {} else if (d) push(now_ns() + d * 1000000, fd); else fire(fd);
    }
    if (!c->open) return;
    memmove(c->buf, c->buf + used, c->len - used); c->len -= used;
  }
}
int main(int argc, char **argv) {
  int port = argc > 1 ? atoi(argv[1]) : 9100, one = 1, ls = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  setsockopt(ls, SOL_SOCKET, SO_REUSEADDR, &one, 4);
  if (bind(ls, (void *)&a, sizeof a) || listen(ls, 4096)) { perror("bind"); return 1; }
  char fill[512]; memset(fill, 'x', sizeof fill); for (int i = 6; i < 512; i += 7) fill[i] = ' '; fill[511] = 0;
  char json[2][700]; sprintf(json[0], "{\\\"intent\\\":\\\"refund\\\",\\\"stamps\\\":[\\\"t0000000000000000\\\"],\\\"reason\\\":\\\"%.440s\\\"}", fill); sprintf(json[1], "{\\\"intent\\\":7,\\\"reason\\\":\\\"%.440s\\\"}", fill);
  const char *contents[] = {fill, json[0], json[1]};
  for (int k = 0; k < 3; k++) {
    char body[3000]; int n = sprintf(body, "{\"id\":\"chatcmpl-mock0123456789abcdef\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"mock\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":310,\"completion_tokens\":120,\"total_tokens\":430,\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0,\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}},\"service_tier\":\"default\",\"system_fingerprint\":\"fp_mock\"}", contents[k]);
    answer_len[k] = sprintf(answer[k], "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", n, body);
  }
  stamped = strstr(answer[1], "t0000000000000000") + 1;
  ep = epoll_create1(0); tfd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  struct epoll_event ev = {.events = EPOLLIN, .data.fd = ls}, evs[512]; epoll_ctl(ep, EPOLL_CTL_ADD, ls, &ev);
  ev.data.fd = tfd; epoll_ctl(ep, EPOLL_CTL_ADD, tfd, &ev);
  fprintf(stderr, "mock upstream on 127.0.0.1:%d\n", port);
  for (;;) {
    int k = epoll_wait(ep, evs, 512, -1);
    for (int i = 0; i < k; i++) {
      int fd = evs[i].data.fd;
      if (fd == ls) { int s; while ((s = accept4(ls, 0, 0, SOCK_NONBLOCK)) >= 0) { if (s >= MAXC) { close(s); continue; }
          setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, 4); Conn *c = &conns[s]; uint32_t g = c->gen; memset(c, 0, sizeof *c); c->gen = g + 1; c->open = 1; c->buf = malloc(BUF + 1);
          ev.events = EPOLLIN; ev.data.fd = s; epoll_ctl(ep, EPOLL_CTL_ADD, s, &ev); } continue; }
      if (fd == tfd) { uint64_t x; if (read(tfd, &x, 8) < 0) {} armed = 0; int64_t t = now_ns();
        while (nheap && heap[0].at <= t) { Timer q = pop(); Conn *c = &conns[q.fd]; if (c->open && c->gen == q.gen && c->pending) { fire(q.fd); if (c->open && !c->pending) serve(q.fd); } }
        continue; }
      Conn *c = &conns[fd]; if (!c->open) continue;
      if (c->len >= BUF) { drop(fd); continue; }
      int r = recv(fd, c->buf + c->len, BUF - c->len, 0);
      if (r == 0 || (r < 0 && errno != EAGAIN)) { drop(fd); continue; }
      if (r > 0) { c->len += r; serve(fd); }
    }
    arm();
  }
}
