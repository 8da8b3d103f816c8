-- `c:...`: what is held at once. A sorted set of holds by the end of their lease.
local Slots = {}
Slots.__index = Slots

local function slots(claim)
  local key = root .. ':' .. claim[2]
  local self = loaded[key]
  if self then return self end
  if reaps then redis.call('ZREMRANGEBYSCORE', key, '-inf', now) end
  self = setmetatable({key = key, count = redis.call('ZCARD', key), is_changed = false}, Slots)
  loaded[key] = self
  return self
end

function Slots:fits(claim) return math.max(claim[3], 1) <= claim[4] - self.count end

function Slots:retry_after(claim)
  if math.max(claim[3], 1) > claim[4] then return NEVER end
  -- Nobody can know when one of the others is done.
  return SOON
end

function Slots:standing(claim) return self.count, claim[4], 0 end

function Slots:take(claim, id)
  if claim[3] == 0 then return end
  self.count = self.count + redis.call('ZADD', self.key, now + lease, id)
  self.is_changed = true
end

Slots.retake = Slots.take
Slots.renew = Slots.take

function Slots:settle(_, _, _, id) self.count = self.count - redis.call('ZREM', self.key, id) end
function Slots:lapse(claim, taken, id) self:settle(claim, 0, taken, id) end
function Slots:drop(_, id) self:settle(nil, 0, 0, id) end
function Slots:settle_late() end
function Slots:charge() end
function Slots:lives_until() return now + lease end

function Slots:save()
  if self.is_changed then expire(self.key, lease * 2 + DAY) end
end
