-- `b:...`: money of one period. A hash: spent `s`, held `h`, the highest mark that was told `m`, the period's end `e`;
-- and for the case that memory was lost: which moment that was `g`, what was spent at it `f`, the tick of the batch
-- that a client knows that from `t` (0: it has survived here), and when the memory had begun that this was done in `r`.
-- `budgets` is the sorted set of them all by the end of their period, `grants` a hash of grants by id.
local Budget = {}
Budget.__index = Budget
local GRACE = DAY

local grants

-- Sum of the grants that are in force at a moment.
local function granted(rule, scope, at)
  if not grants then
    grants = {}
    for _, packed in ipairs(redis.call('HVALS', root .. ':grants')) do grants[#grants + 1] = cmsgpack.unpack(packed) end
  end
  local sum = 0
  for _, grant in ipairs(grants) do
    if grant[1] == rule and (grant[2] == scope or grant[2] == '*') and grant[4] > at then sum = sum + grant[3] end
  end
  return sum
end

local function budget_of(name, ends)
  local key = root .. ':' .. name
  local self = loaded[key]
  if self then return self end
  local raw = redis.call('HMGET', key, 's', 'h', 'm', 'e', 'g', 'f', 't', 'r')
  self = setmetatable({key = key, name = name, spent = tonumber(raw[1] or 0), held = tonumber(raw[2] or 0),
    told = tonumber(raw[3] or 0), ends = tonumber(raw[4] or ends), is_new = not raw[1], is_changed = false,
    doubtful = 0}, Budget)
  self.is_written = raw[5] and tonumber(raw[5]) == lost_at
  if self.is_written then
    self.before, self.told_at, self.told_since = tonumber(raw[6]), tonumber(raw[7] or 0), tonumber(raw[8] or 0)
  else
    -- The first touch since the loss: this much has survived it.
    self.before, self.told_at, self.told_since = self.spent, 0, 0
  end
  loaded[key] = self
  return self
end

-- claim: kind, name, amount, limit, dry run, rule, scope, period's end, charged if lost, marks
local function budget(claim) return budget_of(claim[2], claim[8]) end

function Budget:limit(claim) return claim[4] + granted(claim[6], claim[7], now) end

function Budget:fits(claim)
  -- A caller whose clock is a day behind counts for a period whose counter may be gone.
  if now >= self.ends + GRACE then return false end
  return math.max(claim[3], 1) <= self:limit(claim) - self.spent - self.held
end

function Budget:retry_after(claim)
  local need, left = math.max(claim[3], 1), self.ends - now
  if left <= 0 then return SOON end
  if self.spent + need <= self:limit(claim) then return math.min(SOON, left) end
  if need <= claim[4] + granted(claim[6], claim[7], self.ends) then return left end
  return NEVER
end

function Budget:standing(claim) return self.spent + self.held, self:limit(claim), math.max(0, self.ends - now) end

function Budget:hold(amount)
  self.held = math.max(0, self.held + amount)
  self.is_changed = true
end

function Budget:spend(claim, amount)
  if #doubts > 0 then
    if is_told(self, doubts, tick) then return end
    self.doubtful = self.doubtful + amount
  end
  self.spent = math.max(0, self.spent + amount)
  self.is_changed = true
  for _, mark in ipairs(claim[10]) do
    if self.told < mark and mark <= self.spent then
      self.told = mark
      crossings[#crossings + 1] = {self.name, mark, self.spent, claim[4]}
    end
  end
end

-- What was spent when the memory was lost, as a client knows it from the batch `at`, in a memory that began at `since`.
-- The latest batch knows best. What clients add comes on top, in whatever order they come.
function Budget:at_least(spent, at, since)
  -- It may be told twice, and the second time with what has been heard since.
  if at >= lost_at or at <= self.told_at or self.told_at == 0 and spent <= self.before then return end
  self.spent, self.is_changed = math.max(0, self.spent + spent - self.before), true
  self.before, self.told_at, self.told_since, self.is_written = spent, at, since, false
  self.told = math.max(self.told, spent)
end

function Budget:take_back(amount) self.spent, self.is_changed = math.max(0, self.spent - amount), true end

function Budget:take(claim) self:hold(claim[3]) end

function Budget:retake(claim, _, _, has_lapsed)
  self:hold(claim[3])
  if has_lapsed and claim[9] then self:spend(claim, -claim[3]) end
end

function Budget:settle(claim, used)
  self:hold(-claim[3])
  self:spend(claim, used)
end

function Budget:lapse(claim)
  self:hold(-claim[3])
  if claim[9] then self:spend(claim, claim[3]) end
end

function Budget:settle_late(claim, used)
  self:spend(claim, claim[9] and used - claim[3] or used)
end

function Budget:charge(claim, used) self:spend(claim, used) end
function Budget:renew() end
function Budget:drop(claim) self:hold(-claim[3]) end
function Budget:lives_until() return self.ends + GRACE end

function Budget:save()
  if not self.is_changed then return end
  redis.call('HSET', self.key, 's', self.spent, 'h', self.held, 'm', self.told)
  if not self.is_written then
    redis.call('HSET', self.key, 'e', self.ends, 'g', lost_at, 'f', self.before, 't', self.told_at,
      'r', self.told_since)
  end
  if self.is_new then
    expire(self.key, math.max(self.ends - now, 0) + 2 * GRACE)
    redis.call('ZREMRANGEBYSCORE', root .. ':budgets', '-inf', now - 2 * GRACE)
    redis.call('ZADD', root .. ':budgets', self.ends, self.name)
    redis.call('EXPIRE', root .. ':budgets', NOBODY_KNOWS_S)
  end
  changed_budgets[#changed_budgets + 1] = {self.name, self.ends, self.spent, self.held}
end
