// Load generator for the speed benchmark: one thread, epoll, HTTP/1.1 keep-alive, TLS where asked.
//
//   load -p PORT -b BODY_FILE -t SECONDS (-r RATE | -c CONNECTIONS) [-n CONNECTIONS] [-T] [-S] [-U WORDS_FILE] [-H 'name: value']... [-s SEED]
//
// -r: open loop. Poisson arrivals; latency counts from the moment a request was due, so a gateway that stalls cannot hide its
//     queue (coordinated omission). Requests that find none of the -n connections free wait here, and their wait counts.
// -c: closed loop with so many connections.
// -S: the answer is a stream whose chunks carry the mock's send time (CLOCK_MONOTONIC, ns) as t<digits>.
// -U: the 512 @ in the body become words of that file, new ones for each request.
// At the end all requests under way are waited for, so a slow gateway is not charged for work that was cut off.
// Prints one line: JSON {...}, times in us. What this program and the mock cost themselves is what `direct` shows.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
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
#define MOST (1 << 22)
typedef struct { int fd, busy, chunks, armed_out, dead; SSL *ssl; char *in, *out; int len, cap, scanned, sent; int64_t due, first, stamp; } Conn;
typedef struct { float *v; int n, cap; } Series;
static Conn conns[MAXC]; static int idle[MAXC], nidle, nconns;
static int64_t *queue; static int qhead, qtail, qcap = 1 << 21;
#define UNSEEN 512
static char *request, *words[4096]; static int nwords, mark;
static unsigned short seed[3] = {1, 2, 3};
static int request_len, stream, tls, port, ep, closed_loop;
static SSL_CTX *ctx;
static Series lat, ttft, lag, gate, tail, late;
static int last_status;
static long ok, shed, other, broken, chunks, sent_n, open_n, unsent;
static int64_t stop_at;

static int64_t now_ns(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000LL + t.tv_nsec; }
static void add(Series *s, int64_t ns) {
  if (s->n == s->cap) { s->cap = s->cap ? s->cap * 2 : 65536; s->v = realloc(s->v, s->cap * sizeof(float)); }
  s->v[s->n++] = ns / 1e3f;
}
static int by_size(const void *a, const void *b) { float x = *(float *)a, y = *(float *)b; return (x > y) - (x < y); }
static void show(const char *name, Series *s) {
  if (!s->n) return;
  qsort(s->v, s->n, sizeof(float), by_size);
  const char *keys[] = {"p50", "p90", "p95", "p99", "p999"}; double qs[] = {.5, .9, .95, .99, .999};
  for (int i = 0; i < 5; i++) { int k = ceil(qs[i] * s->n) - 1; printf(", \"%s%s\": %.1f", name, keys[i], s->v[k < 0 ? 0 : k]); }
  printf(", \"%smax\": %.1f", name, s->v[s->n - 1]);
}
static void watch(Conn *c, int out) {
  if (c->armed_out == out) return;
  c->armed_out = out;
  struct epoll_event e = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.u32 = c - conns};
  epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
}
static int connect_one(Conn *c) {      // waits: on loopback that is the handshake only
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int one = 1; c->fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(c->fd, (void *)&a, sizeof a)) { close(c->fd); c->dead = 1; return -1; }
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, 4);
  if (tls) {
    c->ssl = SSL_new(ctx); SSL_set_fd(c->ssl, c->fd);
    if (SSL_connect(c->ssl) != 1) { SSL_free(c->ssl); c->ssl = 0; close(c->fd); c->dead = 1; return -1; }
  }
  fcntl(c->fd, F_SETFL, O_NONBLOCK);
  struct epoll_event e = {.events = EPOLLIN, .data.u32 = c - conns};
  epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e);
  c->armed_out = c->busy = c->dead = 0;
  return 0;
}
static void write_on(Conn *c) {
  while (c->sent < request_len) {
    int n = request_len - c->sent, w;
    if (c->ssl) {
      w = SSL_write(c->ssl, c->out + c->sent, n);
      if (w <= 0) { watch(c, 1); return; }
    } else {
      w = send(c->fd, c->out + c->sent, n, MSG_NOSIGNAL);
      if (w < 0) { watch(c, 1); return; }
    }
    c->sent += w;
  }
  watch(c, 0);
}
static void other_text(Conn *c) {
  static char *own[MAXC]; char **mine = &own[c - conns];
  if (!*mine) { *mine = malloc(request_len); memcpy(*mine, request, request_len); }
  char *p = *mine + mark, *end = p + UNSEEN;
  while (p < end) { const char *w = words[nrand48(seed) % nwords]; while (*w && p < end) *p++ = *w++; if (p < end) *p++ = ' '; }
  c->out = *mine;
}
static void begin(Conn *c, int64_t due) {
  c->busy = 1; c->due = due; c->len = c->scanned = c->sent = c->chunks = 0; c->first = c->stamp = 0; open_n++; sent_n++; c->out = request;
  if (nwords) other_text(c);
  write_on(c);
}
static void next_for(Conn *c) {        // this connection is free again
  if (c->dead && connect_one(c)) { return; }
  if (closed_loop) { int64_t t = now_ns(); if (t < stop_at) begin(c, t); }
  else if (qhead != qtail) { int64_t due = queue[qhead]; qhead = (qhead + 1) % qcap; add(&late, now_ns() - due); begin(c, due); }
  else idle[nidle++] = c - conns;
}
static void hang_up(Conn *c) {
  int was = c->busy;
  epoll_ctl(ep, EPOLL_CTL_DEL, c->fd, 0); if (c->ssl) { SSL_free(c->ssl); c->ssl = 0; } close(c->fd); c->dead = 1; c->busy = 0;
  if (was) { broken++; open_n--; next_for(c); return; }
  for (int i = 0; i < nidle; i++) if (idle[i] == c - conns) { idle[i] = idle[--nidle]; break; }
  next_for(c);
}
static void look(Conn *c, int64_t t) { // stamps of a stream
  char *b = c->in; int i = c->scanned;
  if (!c->first) { char *p = memmem(b, c->len, "\"content\":\"", 11); while (p && p + 11 < b + c->len && p[11] == '"') p = memmem(p + 11, b + c->len - p - 11, "\"content\":\"", 11); if (p && p + 11 < b + c->len) c->first = t; }
  for (;;) {
    char *p = memchr(b + i, 't', c->len - i);
    if (!p) { c->scanned = c->len; return; }
    int k = p - b + 1; int64_t v = 0;
    while (k < c->len && b[k] >= '0' && b[k] <= '9') v = v * 10 + b[k++] - '0';
    if (k == c->len) { c->scanned = p - b; return; }
    if (k - (p - b) > 12) { c->chunks++; c->stamp = v; add(&lag, t - v); }
    i = k;
  }
}
static int whole(Conn *c) {
  char *e = memmem(c->in, c->len, "\r\n\r\n", 4); if (!e) return 0;
  char *l = strcasestr(c->in, "\r\ncontent-length:");
  if (l && l < e) return c->len >= e + 4 - c->in + atoi(l + 17);
  return c->len >= 5 && !memcmp(c->in + c->len - 5, "0\r\n\r\n", 5);
}
static void finished(Conn *c, int64_t t) {
  int status = atoi(c->in + 9), closing = strcasestr(c->in, "\r\nconnection: close") != 0;
  open_n--; c->busy = 0;
  if (status == 200 && (!stream || c->chunks)) {
    ok++; add(&lat, t - c->due); chunks += c->chunks;
    if (stream && c->first) { add(&ttft, c->first - c->due); add(&gate, c->first - c->stamp); add(&tail, t - c->stamp); }
  } else if (status == 503 || status == 429) shed++;
  else { other++; last_status = status; }
  if (closing) hang_up(c); else next_for(c);
}
static void readable(Conn *c) {
  for (;;) {
    if (c->cap - c->len < 65536) { if (c->cap >= MOST) { hang_up(c); return; } c->cap = c->cap ? c->cap * 2 : 131072; c->in = realloc(c->in, c->cap + 1); }
    int n = c->ssl ? SSL_read(c->ssl, c->in + c->len, c->cap - c->len) : recv(c->fd, c->in + c->len, c->cap - c->len, 0);
    if (n <= 0) {
      if (c->ssl) { int e = SSL_get_error(c->ssl, n); if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE) return; }
      else if (n < 0 && errno == EAGAIN) return;
      hang_up(c); return;
    }
    if (!c->busy) continue;
    c->len += n; c->in[c->len] = 0; int64_t t = now_ns();
    if (stream) look(c, t);
    if (whole(c)) { finished(c, t); return; }
  }
}
int main(int argc, char **argv) {
  int o, want = 0; double rate = 0, seconds = 1; const char *file = 0, *path = "/v1/chat/completions", *key = "sk-test"; char extra[4096] = "", *unseen = 0;
  while ((o = getopt(argc, argv, "p:b:t:r:c:n:k:P:H:s:U:TS")) != -1) switch (o) {
    case 'p': port = atoi(optarg); break; case 'b': file = optarg; break; case 't': seconds = atof(optarg); break; case 'r': rate = atof(optarg); break;
    case 'c': closed_loop = 1; want = atoi(optarg); break; case 'n': want = atoi(optarg); break; case 'k': key = optarg; break; case 'P': path = optarg; break;
    case 's': seed[0] = atoi(optarg); break; case 'U': unseen = optarg; break; case 'T': tls = 1; break; case 'S': stream = 1; break;
    case 'H': strncat(extra, optarg, sizeof extra - strlen(extra) - 4); strcat(extra, "\r\n"); break; default: return 2; }
  FILE *f = file ? fopen(file, "rb") : 0; if (!f || !port || (!closed_loop && rate <= 0)) { fprintf(stderr, "load: -p, -b and -r or -c are needed\n"); return 2; }
  fseek(f, 0, SEEK_END); long size = ftell(f); rewind(f); request = malloc(size + 8192);
  request_len = sprintf(request, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\n%sContent-Length: %ld\r\n\r\n", path, port, key, extra, size);
  if (fread(request + request_len, 1, size, f) != (size_t)size) return 2;
  request_len += size;
  if (unseen) {
    static char text[65536]; FILE *w = fopen(unseen, "rb"); char *m = memmem(request, request_len, "@@@@", 4);
    if (!w || !m) { fprintf(stderr, "load: -U needs a file, and 512 @ in the body\n"); return 2; }
    if (fread(text, 1, sizeof text - 1, w) == 0) return 2;
    mark = m - request;
    for (char *p = strtok(text, " \n"); p && nwords < 4096; p = strtok(0, " \n")) words[nwords++] = p;
  }
  signal(SIGPIPE, SIG_IGN);
  if (!want) { want = rate * 0.12; if (want < 16) want = 16; }
  if (want > MAXC) want = MAXC;
  if (tls) { ctx = SSL_CTX_new(TLS_client_method()); SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER); }
  ep = epoll_create1(0); queue = malloc(qcap * sizeof *queue);
  for (nconns = 0; nconns < want; nconns++) if (connect_one(&conns[nconns])) { fprintf(stderr, "load: cannot connect\n"); return 1; }
  int tfd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK); struct epoll_event ev = {.events = EPOLLIN, .data.u32 = MAXC}, evs[256]; epoll_ctl(ep, EPOLL_CTL_ADD, tfd, &ev);
  int64_t start = now_ns() + 20000000, due = start, armed = 0; stop_at = start + seconds * 1e9;
  if (closed_loop) { for (int i = 0; i < nconns; i++) begin(&conns[i], now_ns()); due = stop_at; } else for (int i = 0; i < nconns; i++) idle[nidle++] = i;
  for (;;) {
    int64_t t = now_ns();
    if (!closed_loop) while (due <= t && due < stop_at) {
      if (nidle) { int k = idle[--nidle]; add(&late, t - due); begin(&conns[k], due); t = now_ns(); }
      else if ((qtail + 1) % qcap != qhead) { queue[qtail] = due; qtail = (qtail + 1) % qcap; }
      else unsent++;
      due += -log(1 - erand48(seed)) / rate * 1e9;
    }
    if (t >= stop_at && qhead != qtail) { unsent += (qtail - qhead + qcap) % qcap; qhead = qtail; }   // those still waiting here are not sent any more
    if (t >= stop_at && !open_n) break;
    if (t >= stop_at + 20000000000LL) break;
    int64_t wake = t >= stop_at ? t + 100000000 : due < stop_at ? due : stop_at;
    if (wake != armed) { armed = wake; struct itimerspec s = {0}; s.it_value.tv_sec = wake / 1000000000LL; s.it_value.tv_nsec = wake % 1000000000LL; timerfd_settime(tfd, TFD_TIMER_ABSTIME, &s, 0); }
    int k = epoll_wait(ep, evs, 256, -1);
    for (int i = 0; i < k; i++) {
      if (evs[i].data.u32 == MAXC) { uint64_t x; if (read(tfd, &x, 8) < 0) {} armed = 0; continue; }
      Conn *c = &conns[evs[i].data.u32]; if (c->dead) continue;
      if (c->busy && c->sent < request_len) write_on(c);
      if (evs[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
    }
  }
  double took = (now_ns() - start) / 1e9;
  printf("JSON {\"requests\": %ld, \"sent\": %ld, \"shed\": %ld, \"other\": %ld, \"broken\": %ld, \"unanswered\": %ld, \"unsent\": %ld, \"chunks\": %ld, \"other_status\": %d, \"seconds\": %.4f, \"rps\": %.2f", ok, sent_n, shed, other, broken, open_n, unsent, chunks, last_status, took, ok / (took > seconds ? seconds : took));
  show("", &lat); show("ttft_", &ttft); show("lag_", &lag); show("gate_", &gate); show("tail_", &tail); show("late_", &late);
  printf("}\n"); return 0;
}
