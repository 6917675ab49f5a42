"""The one script that runs in Redis: it settles everything a sidecar reports and asks for, in one go.

What Redis keeps, all under PREFIX:

    limit:KEY     hash: `level` and `at` (a bucket), or `spent` (a budget); `out`, the sum of all leases;
                  `lease:ID`, what the sidecar ID has of it
    leases:KEY    sorted set: the sidecars that have a lease, by when it runs out
    seen:ID       hash: the last batch of a sidecar and what it was told
    usage:HOUR    hash: totals of one hour, see totals.py

Times are the server's own, in microseconds: no clock of a sidecar counts.

A bucket's level and its leases together never exceed its capacity, so that leases which are spent later do
not come on top of a bucket that has filled up meanwhile. A lease that nobody renews runs out and goes back;
whatever is reported as used beyond a lease is taken off the level, down to one capacity below zero.

Requests that wait are served first, and what they get is used up at once (`outright`): it is not a part of
the lease, and a sidecar that dies does not bring it back. Of what is left a sidecar gets no more for later
than its part among those that have a lease, so that many small callers do not lock a small limit away.

A batch whose answer was lost is sent again under the same number, and gets the same answer: nothing is
counted twice. The first write is made before anything else, so that a replica changes nothing. A key of the
wrong type spoils its own limit only.
"""

PREFIX = "sidecar:1:"
FIGURES = 6  # that come back for each limit
SEEN_S = 24 * 3600
USAGE_S = 40 * 24 * 3600

# KEYS: seen:ID, then limit:KEY and leases:KEY of each limit, then usage:HOUR of each total.
# ARGV: ID, batch, microseconds a lease lasts, seconds `seen` and `usage` are kept, the number of limits; of
# each limit KIND, rate, capacity, keep_ms, used, back, waiting, least, spare, known; then of each total its
# label, requests, tokens, nano-USD.
SETTLE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local id, batch, lease_us = ARGV[1], ARGV[2], tonumber(ARGV[3])
local seen_s, usage_s, limits = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local LIMIT_ARGS = 10

if redis.call('HGET', KEYS[1], 'batch') == batch then
  return cmsgpack.unpack(redis.call('HGET', KEYS[1], 'reply'))
end
redis.call('HDEL', KEYS[1], 'batch')

local function number(key, field, default)
  return tonumber(redis.call('HGET', key, field)) or default
end

local function take_back_expired(limit, leases)
  local freed = 0
  for _, other in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now)) do
    freed = freed + number(limit, 'lease:' .. other, 0)
    redis.call('HDEL', limit, 'lease:' .. other)
    redis.call('ZREM', leases, other)
  end
  return freed
end

local function grant(free, others, waiting, least, spare)
  free = math.max(0, math.floor(free + 1e-6))
  local served = math.min(waiting, free)
  if served < least then
    return 0, 0
  end
  return served, math.min(spare, math.floor((free - served) / (2 + 2 * others)))
end

local function settle(limit, leases, at)
  local kind, rate, capacity, keep_ms = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), ARGV[at + 3]
  local used, back = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  local waiting, least, spare = tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7]), tonumber(ARGV[at + 8])
  local is_bucket = kind == 'bucket'

  local freed = take_back_expired(limit, leases)
  local before = number(limit, 'lease:' .. id, 0)
  local own = math.max(0, before - used)
  local uncovered = math.max(0, used - before)
  back = math.min(back, own)
  own = own - back
  local out = math.max(0, number(limit, 'out', 0) - freed + own - before)

  local level, spent = 0, 0
  if is_bucket then
    local elapsed = math.max(0, now - number(limit, 'at', now))
    level = number(limit, 'level', capacity) + freed + back - uncovered + elapsed * rate / 60000000
    level = math.max(-capacity, math.min(level, capacity - out))
  else
    spent = math.max(number(limit, 'spent', 0), tonumber(ARGV[at + 9])) + used
    level = capacity - spent - out
  end

  local served, more = grant(level, redis.call('ZCARD', leases), waiting, least, spare)
  local outright = is_bucket and served or 0
  level = level - served - more
  own = own + served + more - outright
  out = out + served + more - outright

  if is_bucket then
    redis.call('HSET', limit, 'level', level, 'at', now, 'out', out)
  else
    redis.call('HSET', limit, 'spent', spent, 'out', out)
  end
  if own > 0 then
    redis.call('HSET', limit, 'lease:' .. id, own)
    redis.call('ZADD', leases, now + lease_us, id)
  else
    redis.call('HDEL', limit, 'lease:' .. id)
    redis.call('ZREM', leases, id)
  end
  for _, key in ipairs({limit, leases}) do
    if keep_ms == '0' then redis.call('PERSIST', key) else redis.call('PEXPIRE', key, keep_ms) end
  end
  local wait_ms = 0
  if rate > 0 then
    wait_ms = math.max(0, math.ceil((math.max(least, 1) - level) * 60000 / rate))
  end
  return {served + more, outright, math.floor(level + 1e-6), wait_ms, own, spent}
end

local told = {}
for i = 1, limits do
  local is_ok, reply = pcall(settle, KEYS[2 * i], KEYS[2 * i + 1], 7 + (i - 1) * LIMIT_ARGS)
  told[i] = is_ok and reply or {-1, 0, 0, 0, 0, 0}
end

local first_key, at, lost = 2 + 2 * limits, 7 + limits * LIMIT_ARGS, 0
for i = first_key, #KEYS do
  local is_ok = pcall(function()
    for offset, figure in ipairs({'requests', 'tokens', 'nano_usd'}) do
      redis.call('HINCRBY', KEYS[i], figure .. ' ' .. ARGV[at], ARGV[at + offset])
    end
    redis.call('EXPIRE', KEYS[i], usage_s)
  end)
  if not is_ok then lost = lost + 1 end
  at = at + 4
end
told[limits + 1] = lost

redis.call('HSET', KEYS[1], 'batch', batch, 'reply', cmsgpack.pack(told))
redis.call('EXPIRE', KEYS[1], seen_s)
return told
"""
