-- `w:...`: units in a sliding window. A hash of sub-windows, with their sum `s`, the oldest `o` that may have units,
-- and the newest `n` that has.
local SUB_WINDOWS = 100
local Window = {}
Window.__index = Window

local function sub_window(at, width) return (at - at % width) / width end

local function window(claim)
  local key, width = root .. ':' .. claim[2], claim[6]
  local self = loaded[key]
  if self then return self end
  local index = sub_window(now, width)
  local cutoff = index - SUB_WINDOWS
  local raw = redis.call('HMGET', key, 's', 'o', 'n', index)
  self = setmetatable({key = key, width = width, index = index, cutoff = cutoff, sum = tonumber(raw[1] or 0),
    oldest = tonumber(raw[2] or index), newest = tonumber(raw[3] or cutoff - 1),
    units = {[index] = tonumber(raw[4] or 0)}, changed = {}, is_changed = false, is_whole = false}, Window)
  loaded[key] = self
  if not raw[1] then
    self.is_whole = true
  elseif self.newest < cutoff then
    redis.call('DEL', key)
    self.sum, self.oldest, self.is_whole = 0, index, true
  elseif self.oldest < cutoff then
    local gone = {}
    for old = self.oldest, cutoff - 1 do gone[#gone + 1] = old end
    for _, units in ipairs(redis.call('HMGET', key, unpack(gone))) do
      self.sum = self.sum - tonumber(units or 0)
    end
    redis.call('HDEL', key, unpack(gone))
    self.oldest, self.is_changed = cutoff, true
  end
  return self
end

function Window:read_all()
  if self.is_whole then return end
  local all = redis.call('HGETALL', self.key)
  for i = 1, #all, 2 do
    local index = tonumber(all[i])
    if index and self.units[index] == nil then self.units[index] = tonumber(all[i + 1]) end
  end
  self.is_whole = true
end

function Window:at(index)
  local units = self.units[index]
  if units == nil then
    units = 0
    if not self.is_whole then units = tonumber(redis.call('HGET', self.key, index) or 0) end
    self.units[index] = units
  end
  return units
end

-- Add `by` units to the sub-window of the moment `taken`, if that still counts.
function Window:change(taken, by)
  local index = sub_window(math.min(taken, now), self.width)
  if index < self.cutoff or by == 0 then return end
  local units = self:at(index) + by
  self.units[index], self.changed[index], self.is_changed = units, true, true
  self.sum = self.sum + by
  self.oldest = math.min(self.oldest, index)
  if units > 0 then
    self.newest = math.max(self.newest, index)
  elseif index == self.newest then
    self:read_all()
    while self.newest >= self.oldest and (self.units[self.newest] or 0) == 0 do self.newest = self.newest - 1 end
  end
end

function Window:leaves_after(index) return (index + SUB_WINDOWS + 1) * self.width - now end

function Window:fits(claim) return math.max(claim[3], 1) <= claim[4] - self.sum end

function Window:retry_after(claim)
  local amount, limit = math.max(claim[3], 1), claim[4]
  if amount > limit then return NEVER end
  local excess = self.sum + amount - limit
  self:read_all()
  for index = self.oldest, self.newest do
    excess = excess - (self.units[index] or 0)
    if excess <= 0 then return self:leaves_after(index) end
  end
  return SOON
end

-- used, limit, seconds until it is empty
function Window:standing(claim)
  local reset = 0
  if self.sum > 0 then reset = self:leaves_after(self.newest) end
  return self.sum, claim[4], reset
end

function Window:take(claim) self:change(now, claim[3]) end
function Window:retake(claim, _, taken) self:change(taken, claim[3]) end
function Window:settle(claim, used, taken) self:change(taken, used - claim[3]) end
function Window:lapse(claim, taken) self:change(taken, -claim[3]) end
function Window:settle_late(claim, used, taken) self:change(taken, used) end
function Window:charge(_, used, taken) self:change(taken, used) end
function Window:renew() end
function Window:drop() end
function Window:lives_until(claim) return now + claim[6] * (SUB_WINDOWS + 2) end

function Window:save()
  if not self.is_changed then return end
  if self.sum == 0 then
    redis.call('DEL', self.key)
    return
  end
  local set, gone = {'s', self.sum, 'o', self.oldest, 'n', self.newest}, {}
  for index in pairs(self.changed) do
    if self.units[index] == 0 then
      gone[#gone + 1] = index
    else
      set[#set + 1], set[#set + 2] = index, self.units[index]
    end
  end
  redis.call('HSET', self.key, unpack(set))
  if #gone > 0 then redis.call('HDEL', self.key, unpack(gone)) end
  expire(self.key, self.width * (SUB_WINDOWS + 2) + SECOND)
end
