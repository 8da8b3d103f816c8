-- `heard`: the sorted set of clients by the tick of their last batch. With every answer a client hears who else has
-- been here since its own batch before; so whoever knows how a budget stood at some tick also knows which batches are
-- in that.
--
-- A batch that was not answered comes again. Where the memory has been lost meanwhile, nobody here knows whether it was
-- done; but what clients tell of a budget may have it in already. It comes with its doubts, {client, tick}: the names
-- under which it was sent, and the last batch before it that was answered.
local HEARD_FOR = 3600 * SECOND
local heard_key = root .. ':heard'
local has_told = false
local ticks

local function tick_of(name)
  if not ticks then
    ticks = {}
    local flat = redis.call('ZRANGEBYSCORE', heard_key, '-inf', '+inf', 'WITHSCORES')
    for i = 1, #flat, 2 do ticks[flat[i]] = tonumber(flat[i + 1]) end
  end
  return ticks[name] or 0
end

-- What a client has heard of others, before this server lost it.
local function hear(flat)
  for i = 1, #flat, 2 do
    local name, at = flat[i], tonumber(flat[i + 1])
    if at > tick_of(name) then
      redis.call('ZADD', heard_key, at, name)
      ticks[name] = at
    end
  end
  has_told = true
  return true
end

-- Who else was here since this client was; and this client was here.
local function news()
  local found = redis.call('ZRANGEBYSCORE', heard_key, string.format('(%.0f', heard_tick), '+inf', 'WITHSCORES')
  if redis.call('ZADD', heard_key, tick, client) == 1 then
    redis.call('ZREMRANGEBYSCORE', heard_key, '-inf', tick - HEARD_FOR)
    redis.call('EXPIRE', heard_key, NOBODY_KNOWS_S)
  end
  return found
end

-- Whether a batch with these doubts is in what was told of this budget. Only what was done in the memory that is told
-- of can be; what was done under one of its names at `before` or later is the batch that came again, or another.
local function is_told(counter, names, before)
  for _, doubt in ipairs(names) do
    local at = tick_of(doubt[1])
    if doubt[2] < at and at < before and counter.told_since <= at and at <= counter.told_at then return true end
  end
  return false
end
