-- wrk script: the benchmark's request (BODY_FILE) in closed loop, as a check of load.c by a generator that everybody knows.
-- Env: API_KEY. Prints one line JSON {...}: a part of load.c's, times in us.
local file = assert(io.open(os.getenv("BODY_FILE"), "rb"))
local body = file:read("*a")
file:close()
local headers = {["Content-Type"] = "application/json", ["Authorization"] = "Bearer " .. os.getenv("API_KEY")}
local fixed
function init(args) fixed = wrk.format("POST", "/v1/chat/completions", headers, body) end
function request() return fixed end
function done(s, l, r)
  io.write(string.format('JSON {"requests":%d,"seconds":%.4f,"rps":%.2f,"broken":%d,"other":%d,"unanswered":%d,"p50":%d,"p99":%d}\n',
    s.requests - s.errors.status, s.duration / 1e6, (s.requests - s.errors.status) / s.duration * 1e6, s.errors.connect + s.errors.read + s.errors.write, s.errors.status, s.errors.timeout,
    l:percentile(50), l:percentile(99)))
end
