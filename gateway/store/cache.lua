-- Stored replies. A batch of operations of one process, in order; each stands for itself.
--
-- KEYS[1] is `{prefix}`: every key begins with it, so all of them are in one slot of a cluster.
-- ARGV[1]: process, room in bytes, operations; packed. Times are microseconds of this server's clock. The packing has no
-- word for bytes that are no text, so replies stand behind it, in the order of the operations that have one, and the
-- length of what is packed before it, in eight hexadecimal digits. The answer is written in the same way.
--
-- A scope's epoch is its field in the hash of epochs, or that hash's own beginning. So whoever loses the hash (a restart
-- without a file, an eviction) has lost every entry too: none of them carries the new beginning. A purge of one entry
-- has a key of its own, which is needed as long as a request may run, and means nothing when it is gone.
local root = KEYS[1] .. ':cache:'
local DIGITS = 8
local head_ends = DIGITS + tonumber(string.sub(ARGV[1], 1, DIGITS), 16)
local owner, room, operations = unpack(cmsgpack.unpack(string.sub(ARGV[1], DIGITS + 1, head_ends)))
local next_blob = head_ends + 1
local KEPT_S, ENTRY_EPOCH_MS, SELDOM, MOST_EVICTED = 2592000, 3600000, 60000000, 100

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])

local epochs_key, used_key, sizes_key, bytes_key = root .. 'epochs', root .. 'used', root .. 'sizes', root .. 'bytes'

local function number(value) return string.format('%.0f', value) end

local function beginning()
  local known = redis.call('HGET', epochs_key, '')
  if known then return tonumber(known) end
  redis.call('HSET', epochs_key, '', number(now))
  redis.call('EXPIRE', epochs_key, KEPT_S)
  return now
end
local begun = beginning()

local function is_entry(scope) return string.sub(scope, 1, 6) == 'entry:' end

-- The scope's epoch; nothing for an entry that was not purged lately.
local function epoch_of(scope)
  if is_entry(scope) then
    local known = redis.call('GET', root .. 'purged:' .. string.sub(scope, 7))
    return known and tonumber(known)
  end
  local known = redis.call('HGET', epochs_key, scope)
  return known and tonumber(known) or begun
end

local function are_in_force(scopes, epochs)
  for i, scope in ipairs(scopes) do
    local epoch = epoch_of(scope)
    if epoch and epoch ~= epochs[i] then return false end
  end
  return true
end

local function entry_key(id) return root .. 'e:' .. id end

local function forget(id)
  local size = redis.call('HGET', sizes_key, id)
  if size then
    redis.call('HDEL', sizes_key, id)
    redis.call('ZREM', used_key, id)
    redis.call('DECRBY', bytes_key, size)
  end
  redis.call('DEL', entry_key(id))
end

local function release(id)
  local key = root .. 'lease:' .. id
  if redis.call('GET', key) == owner then redis.call('DEL', key) end
  return true
end

local blobs = {}

-- Its length (-1: nothing found), whether this process leads, the epochs of the scopes.
local function find(id, scopes, lease_ms)
  local found = redis.call('HMGET', entry_key(id), 's', 'b')
  if found[1] then
    local own_scopes, own_epochs = unpack(cmsgpack.unpack(found[1]))
    if are_in_force(own_scopes, own_epochs) then
      local used = redis.call('ZSCORE', used_key, id)
      if used and now - tonumber(used) > SELDOM then redis.call('ZADD', used_key, 'XX', number(now), id) end
      blobs[#blobs + 1] = found[2]
      return {#found[2], true, own_epochs}
    end
    forget(id)
  end
  local leads = true
  if lease_ms > 0 then
    local key = root .. 'lease:' .. id
    local holder = redis.call('GET', key)
    leads = not holder or holder == owner
    if leads then redis.call('SET', key, owner, 'PX', lease_ms) end
  end
  local epochs = {}
  for i, scope in ipairs(scopes) do epochs[i] = epoch_of(scope) or begun end
  return {-1, leads, epochs}
end

local function evict()
  local bytes = tonumber(redis.call('GET', bytes_key) or '0')
  for _ = 1, MOST_EVICTED do
    if bytes <= room then return end
    local oldest = redis.call('ZRANGE', used_key, 0, 0)[1]
    if not oldest then
      redis.call('DEL', bytes_key, sizes_key)
      return
    end
    forget(oldest)
    redis.call('ZREM', used_key, oldest)
    bytes = tonumber(redis.call('GET', bytes_key) or '0')
  end
end

local function put(id, length, size, ttl_ms, scopes, epochs)
  local blob = string.sub(ARGV[1], next_blob, next_blob + length - 1)
  next_blob = next_blob + length
  release(id)
  if size > room or not are_in_force(scopes, epochs) then return false end
  forget(id)
  local key = entry_key(id)
  redis.call('HSET', key, 's', cmsgpack.pack({scopes, epochs}), 'b', blob)
  redis.call('PEXPIRE', key, ttl_ms)
  redis.call('ZADD', used_key, number(now), id)
  redis.call('HSET', sizes_key, id, size)
  redis.call('INCRBY', bytes_key, size)
  for _, each in ipairs({used_key, sizes_key, bytes_key, epochs_key}) do redis.call('EXPIRE', each, KEPT_S) end
  evict()
  return true
end

local function bump(scope)
  local epoch = math.max(now, (epoch_of(scope) or begun) + 1)
  if is_entry(scope) then
    redis.call('SET', root .. 'purged:' .. string.sub(scope, 7), number(epoch), 'PX', ENTRY_EPOCH_MS)
  else
    redis.call('HSET', epochs_key, scope, number(epoch))
    redis.call('EXPIRE', epochs_key, KEPT_S)
  end
  return epoch
end

-- Looks through a part of all entries: the next cursor, and how many of the scope were removed.
local function sweep(scope, cursor, count)
  local scanned = redis.call('ZSCAN', used_key, cursor, 'COUNT', count)
  local removed = 0
  for i = 1, #scanned[2], 2 do
    local id = scanned[2][i]
    local packed = redis.call('HGET', entry_key(id), 's')
    if not packed then
      forget(id)
    else
      local scopes, epochs = unpack(cmsgpack.unpack(packed))
      if not are_in_force(scopes, epochs) then
        for _, each in ipairs(scopes) do
          if each == scope then removed = removed + 1 end
        end
        forget(id)
      end
    end
  end
  return {scanned[1], removed}
end

local HANDLERS = {find, put, release, bump, sweep}
local RELEASE = 3

-- Of what is stored, not of the server: only these are one operation's own matter.
local DATA_FAULTS = {'WRONGTYPE', 'Bad data', 'attempt to', 'bad argument'}

local function is_of_data(fault)
  -- Redis 6 raises texts, Redis 7 tables.
  local text = type(fault) == 'table' and tostring(fault.err) or tostring(fault)
  for _, words in ipairs(DATA_FAULTS) do
    if string.find(text, words, 1, true) then return true end
  end
  return false
end

local answers = {}
for i, operation in ipairs(operations) do
  local is_done, answer = pcall(HANDLERS[operation[1]], unpack(operation, 2))
  if not is_done then
    if not is_of_data(answer) then error(answer) end
    if operation[1] <= RELEASE then pcall(forget, operation[2]) end
    answer = false
  end
  answers[i] = answer
end
local head = cmsgpack.pack(answers)
return string.format('%08x', #head) .. head .. table.concat(blobs)
