-- The batch: once each, in order, in a store that has lost nothing.
--
-- `client:ID` holds the number of the client's last batch, and its answer. A client sends one batch at a time, and
-- the same one again until it is answered. So the number is the last one's: it was done, here is its answer. One
-- more: do it. Anything else: this server has lost some of what it once did (or an old batch comes late, and is
-- not done).
--
-- `pulse`: when the last batch of any client came; from when on leases may end; until when nothing is decided or
-- counted, because the store has lost its memory and the clients are telling it theirs (0: nobody has told yet); the
-- tick at which this memory began; and the last tick.
local GATHERING = 1300000
local AWAY = 20 * SECOND
local LARGEST_KEPT = 65536
local APPLIED, LOST, GATHERS = 0, 1, 2

local HANDLERS = {hold, settle, release, register, renew, charge, at_least, add_spend, read_spend, read_budgets,
  read_granted, grant, record, read_audit, put, read_overrides, drop, acquire, let_go, hear, forget}

-- Faults of the server rather than of one operation. The pulse is the first write, and most are raised by that.
local SERVER_FAULTS = {'READONLY', 'LOADING', 'OOM', 'MISCONF', 'NOREPLICAS', 'MASTERDOWN', 'CLUSTERDOWN', 'MOVED',
  'ASK', 'TRYAGAIN', 'NOPERM', 'non local key'}

local function is_of_server(text)
  for _, words in ipairs(SERVER_FAULTS) do
    if string.find(text, words, 1, true) then return true end
  end
  return false
end

local function refuse(status, gathers_for)
  return cmsgpack.pack({status, now, gathers_for, {}, {}, {}, 0, 0, {}})
end

local client_key, pulse_key = root .. ':client:' .. client, root .. ':pulse'
local known = redis.call('GET', client_key)
local last = 0
if known then
  local space = string.find(known, ' ', 1, true)
  last = tonumber(string.sub(known, 1, space - 1))
  if last == seq then return string.sub(known, space + 1) end
end
if seq ~= last + 1 then return refuse(LOST, 0) end

local seen, reap_from, gathers_until, last_tick = now, 0, 0, 0
local pulse = redis.call('GET', pulse_key)
if pulse then seen, reap_from, gathers_until, lost_at, last_tick = unpack(cmsgpack.unpack(pulse)) end
tick = math.max(now, (last_tick or 0) + 1, heard_tick + 1)
if not pulse then lost_at = tick end
if has_lost then
  -- It was here after this memory began: so part of that is lost. One that was not tells of the memory before; where
  -- the others have been waited for, it comes late, and nobody waits again.
  if heard_tick >= lost_at then lost_at, gathers_until = tick, 0 end
  if gathers_until == 0 then gathers_until = now + GATHERING end
end
if gathers_until > now and not recovers then return refuse(GATHERS, gathers_until - now) end
-- Nobody was here for a while: the store was away, and holds of clients that live look as if they had lapsed.
if now - seen > AWAY then reap_from = now + GATHERING * 2 end
reaps = now >= reap_from and now >= gathers_until
redis.call('SET', pulse_key, cmsgpack.pack({now, reap_from, gathers_until, lost_at, tick}), 'EX', NOBODY_KNOWS_S)

if reaps then reap() end
doubts = doubts_asked
local answers = {}
for i, operation in ipairs(operations) do
  local is_done, answer = pcall(HANDLERS[operation[1]], unpack(operation, 2))
  if not is_done then
    local text = text_of(answer)
    if is_of_server(text) then error(text) end
    answer = {err = text}
  end
  answers[i] = answer
end
if #doubts > 0 then remember_doubts() end
if has_told then settle_doubts() end
for _, counter in pairs(loaded) do counter:save() end
if has_leased then redis.call('EXPIRE', leases, NOBODY_KNOWS_S) end

local gathers_for = math.max(0, gathers_until - now)
local others = news()
local answer = cmsgpack.pack({APPLIED, now, gathers_for, answers, crossings, changed_budgets, tick, lost_at, others})
local kept = answer
if #answer > LARGEST_KEPT then
  kept = cmsgpack.pack({APPLIED, now, gathers_for, {}, crossings, changed_budgets, tick, lost_at, others})
end
redis.call('SET', client_key, string.format('%.0f ', seq) .. kept, 'EX', 7 * 86400)
return answer
