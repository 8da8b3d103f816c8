-- `doubts`: a hash of the doubtful batches that were done here, with what each has added to budgets. A client may come
-- late, and tell of a budget that has one of them in: then it is taken back. Not one from before this memory began: the
-- budget as it was then is what is compared with what is told, and that one is in both.
local doubts_key = root .. ':doubts'
local MOST_DOUBTS, DOUBTED_S = 1000, 86400

local function remember_doubts()
  local sums = {}
  for _, counter in pairs(loaded) do
    if counter.doubtful and counter.doubtful ~= 0 then sums[#sums + 1] = {counter.name, counter.doubtful} end
  end
  if #sums == 0 then return end
  if redis.call('HLEN', doubts_key) >= MOST_DOUBTS then redis.call('DEL', doubts_key) end
  redis.call('HSET', doubts_key, client .. string.format(' %.0f', seq), cmsgpack.pack({tick, doubts, sums}))
  redis.call('EXPIRE', doubts_key, DOUBTED_S)
end

local function settle_doubts()
  local flat = redis.call('HGETALL', doubts_key)
  for i = 1, #flat, 2 do
    local at, names, sums = unpack(cmsgpack.unpack(flat[i + 1]))
    local open = {}
    if at < lost_at then sums = {} end
    for _, sum in ipairs(sums) do
      local counter = budget_of(sum[1], 0)
      if is_told(counter, names, at) then
        counter:take_back(sum[2])
      elseif not counter.is_new then
        open[#open + 1] = sum
      end
    end
    if #open == 0 then
      redis.call('HDEL', doubts_key, flat[i])
    elseif #open < #sums then
      redis.call('HSET', doubts_key, flat[i], cmsgpack.pack({at, names, open}))
    end
  end
end
