-- `hold:ID`: when it was taken, whether its lease is over, which of its claims were taken, and the claims.
-- `leases`: the sorted set of holds by the end of their lease.
local COUNTERS = {window, slots, budget}
local leases = root .. ':leases'
local REAPED_AT_ONCE = 100
local KEPT = 900 * SECOND
local has_leased = false

local function counter_of(claim) return COUNTERS[claim[1]](claim) end

local function record_key(id) return root .. ':hold:' .. id end

local function read_record(id)
  local raw = redis.call('GET', record_key(id))
  if not raw then return nil end
  local taken, has_lapsed, flags, packed = unpack(cmsgpack.unpack(raw))
  return {taken = taken, has_lapsed = has_lapsed, flags = flags, packed = packed, claims = cmsgpack.unpack(packed)}
end

-- Kept as long as any counter it is in, so that a hold can always be given back to what it was taken from.
local function write_record(id, record)
  local until_us = now + KEPT
  for _, claim in ipairs(record.claims) do
    until_us = math.max(until_us, counter_of(claim):lives_until(claim))
  end
  local raw = cmsgpack.pack({record.taken, record.has_lapsed, record.flags, record.packed})
  redis.call('SET', record_key(id), raw, 'PX', math.ceil((until_us - now) / 1000))
end

local function lease_it(id)
  redis.call('ZADD', leases, now + lease, id)
  has_leased = true
end

-- Calls visit(counter, claim, i) for each claim that was taken.
local function each_taken(record, visit)
  for i, claim in ipairs(record.claims) do
    if string.byte(record.flags, i) == 49 then visit(counter_of(claim), claim, i) end
  end
end

local function stand(answer, claim, fits)
  local counter = counter_of(claim)
  local used, limit, reset = counter:standing(claim)
  local retry_after = 0
  if not fits then retry_after = counter:retry_after(claim) end
  local n = #answer
  answer[n + 1], answer[n + 2], answer[n + 3], answer[n + 4], answer[n + 5] = fits, used, limit, retry_after, reset
end

local function hold(id, packed)
  local record = read_record(id)
  local claims, fitting, is_granted = cmsgpack.unpack(packed), {}, true
  if record then
    for i = 1, #claims do fitting[i] = string.byte(record.flags, i) == 49 end
  else
    for i, claim in ipairs(claims) do
      fitting[i] = counter_of(claim):fits(claim)
      is_granted = is_granted and (fitting[i] or claim[5])
    end
    if is_granted then
      local flags = {}
      for i, claim in ipairs(claims) do
        if fitting[i] then counter_of(claim):take(claim, id) end
        flags[i] = fitting[i] and '1' or '0'
      end
      write_record(id, {taken = now, has_lapsed = false, flags = table.concat(flags), packed = packed, claims = claims})
      lease_it(id)
    end
  end
  local answer = {is_granted}
  for i, claim in ipairs(claims) do stand(answer, claim, fitting[i]) end
  return answer
end

-- `taken`: when it was taken by the client's estimate, for what this server has never seen.
local function settle(id, packed, used, taken)
  local record = read_record(id)
  if not record then
    for i, claim in ipairs(cmsgpack.unpack(packed)) do counter_of(claim):charge(claim, used[i], taken) end
    return true
  end
  each_taken(record, function(counter, claim, i)
    if record.has_lapsed then
      counter:settle_late(claim, used[i], record.taken)
    else
      counter:settle(claim, used[i], record.taken, id)
    end
  end)
  redis.call('DEL', record_key(id))
  redis.call('ZREM', leases, id)
  return true
end

-- Undo holds whose answer nobody has got. One that is unknown was never taken.
local function release(ids)
  for _, id in ipairs(ids) do
    local record = read_record(id)
    if record and not record.has_lapsed then
      each_taken(record, function(counter, claim) counter:settle(claim, 0, record.taken, id) end)
    end
    if record then redis.call('DEL', record_key(id)) end
    redis.call('ZREM', leases, id)
  end
  return true
end

-- Holds that were settled in a memory that is lost, and that this server remembers from before: what is told of budgets
-- has them in. Nobody knows how much of a window they used, so there they stay for what they were taken.
local function forget(ids)
  for _, id in ipairs(ids) do
    local record = read_record(id)
    if record then
      if not record.has_lapsed then each_taken(record, function(counter, claim) counter:drop(claim, id) end) end
      redis.call('DEL', record_key(id))
      redis.call('ZREM', leases, id)
    end
  end
  return true
end

-- A hold that lives: its lease goes on; one that has lapsed, was lost, or was made without this server, is taken.
local function register(id, packed, taken)
  local record = read_record(id)
  if record and not record.has_lapsed then
    each_taken(record, function(counter, claim) counter:renew(claim, id) end)
  elseif record then
    each_taken(record, function(counter, claim) counter:retake(claim, id, record.taken, true) end)
    record.has_lapsed = false
  else
    local claims = cmsgpack.unpack(packed)
    record = {taken = math.min(taken, now), has_lapsed = false, flags = string.rep('1', #claims), packed = packed,
      claims = claims}
    each_taken(record, function(counter, claim) counter:retake(claim, id, record.taken, false) end)
  end
  write_record(id, record)
  lease_it(id)
  return true
end

-- Answers the ids that are not known as living, for their client to register.
local function renew(ids)
  local missing = {}
  for _, id in ipairs(ids) do
    local record = read_record(id)
    if record and not record.has_lapsed then
      each_taken(record, function(counter, claim) counter:renew(claim, id) end)
      write_record(id, record)
      lease_it(id)
    else
      missing[#missing + 1] = id
    end
  end
  return missing
end

-- What was used without this server, summed up by counter.
local function charge(claims, used, taken)
  for i, claim in ipairs(claims) do counter_of(claim):charge(claim, used[i], taken[i]) end
  return true
end

-- At least this was spent: a client has seen it, before this server lost it.
local function at_least(name, ends, spent, at, since)
  if ends > now then budget_of(name, ends):at_least(spent, at, since) end
  has_told = true
  return true
end

local function reap()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, REAPED_AT_ONCE)) do
    local record = read_record(id)
    if record and not record.has_lapsed then
      each_taken(record, function(counter, claim) counter:lapse(claim, record.taken, id) end)
      record.has_lapsed = true
      write_record(id, record)
    end
    redis.call('ZREM', leases, id)
  end
end
