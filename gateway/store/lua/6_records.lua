-- Reports, audit, overrides and names.
local KEPT_DAYS = 400
local MOST_FIELDS, MOST_ENTRIES, PAGE = 20000, 10000, 500

-- `spend:DAY`: a hash of sums by their dimensions. Configured names and allow-listed tags; bounded all the same.
local function add_spend(day, field, other, requests, input, output, cost)
  local key = root .. ':spend:' .. day
  local known = redis.call('HGET', key, field)
  if not known then
    if redis.call('HLEN', key) >= MOST_FIELDS then
      field = other
      known = redis.call('HGET', key, field)
    end
    redis.call('EXPIRE', key, KEPT_DAYS * 86400)
  end
  local sums = known and cmsgpack.unpack(known) or {0, 0, 0, 0}
  redis.call('HSET', key, field,
    cmsgpack.pack({sums[1] + requests, sums[2] + input, sums[3] + output, sums[4] + cost}))
  redis.call('EXPIRE', key, KEPT_DAYS * 86400)
  return true
end

local function read_spend(day)
  local all, found = redis.call('HGETALL', root .. ':spend:' .. day), {}
  for i = 1, #all, 2 do found[#found + 1] = {all[i], cmsgpack.unpack(all[i + 1])} end
  return found
end

-- From the latest end backwards, so that those that end meanwhile shift nothing.
local function read_budgets(skip)
  local names = redis.call('ZREVRANGE', root .. ':budgets', skip, skip + PAGE - 1)
  local found = {}
  for _, name in ipairs(names) do
    local counter = budget_of(name, now)
    found[#found + 1] = {name, counter.ends, counter.spent, counter.held}
  end
  return {#names == PAGE, found}
end

local function read_granted(rule, scopes)
  local found = {}
  for i, scope in ipairs(scopes) do found[i] = granted(rule, scope, now) end
  return found
end

local function grant(rule, id, scope, amount, until_us)
  local key = root .. ':grants'
  local flat, last = redis.call('HGETALL', key), until_us
  for i = 1, #flat, 2 do
    local ends = cmsgpack.unpack(flat[i + 1])[4]
    if ends <= now then redis.call('HDEL', key, flat[i]) end
    last = math.max(last, ends)
  end
  redis.call('HSETNX', key, id, cmsgpack.pack({rule, scope, amount, until_us}))
  expire(key, math.max(last - now, SECOND))
  grants = nil
  return true
end

local audit_key, overrides_key = root .. ':audit', root .. ':overrides'

local function record(entry)
  redis.call('XADD', audit_key, 'MAXLEN', '~', MOST_ENTRIES, '*', 'entry', entry)
  redis.call('EXPIRE', audit_key, KEPT_DAYS * 86400)
  return true
end

local function read_audit(limit)
  local found = {}
  for i, entry in ipairs(redis.call('XREVRANGE', audit_key, '+', '-', 'COUNT', limit)) do found[i] = entry[2][2] end
  return found
end

local function put(name, until_us, override)
  redis.call('HSET', overrides_key, name, cmsgpack.pack({until_us, override}))
  redis.call('EXPIRE', overrides_key, KEPT_DAYS * 86400)
  return true
end

-- Those in force; reading them keeps them, for as long as there is a gateway that reads.
local function read_overrides()
  local flat, found = redis.call('HGETALL', overrides_key), {}
  for i = 1, #flat, 2 do
    local until_us, override = unpack(cmsgpack.unpack(flat[i + 1]))
    if until_us ~= 0 and until_us <= now then
      redis.call('HDEL', overrides_key, flat[i])
    else
      found[#found + 1] = override
    end
  end
  if #found > 0 then redis.call('EXPIRE', overrides_key, KEPT_DAYS * 86400) end
  return found
end

local function drop(name)
  local packed = redis.call('HGET', overrides_key, name)
  if not packed then return false end
  redis.call('HDEL', overrides_key, name)
  local until_us, override = unpack(cmsgpack.unpack(packed))
  return (until_us == 0 or until_us > now) and override
end

local function acquire(name, owner, ttl)
  local key = root .. ':lock:' .. name
  local held_by = redis.call('GET', key)
  if held_by and held_by ~= owner then return false end
  redis.call('SET', key, owner, 'PX', math.max(1, math.ceil(ttl / 1000)))
  return true
end

local function let_go(name, owner)
  local key = root .. ':lock:' .. name
  if redis.call('GET', key) == owner then redis.call('DEL', key) end
  return true
end
