-- What every part below uses. The parts are joined into one script in the order of their names.
--
-- KEYS[1] is `{prefix}`: every key begins with it, so all of them are in one slot of a cluster.
-- ARGV[1] is one batch of operations of one client, packed. All times are microseconds of this server's clock,
-- all amounts are integers below 2^53, which Lua's numbers hold exactly.
local root = KEYS[1]
local batch = cmsgpack.unpack(ARGV[1])
local client, seq, lease, recovers, has_lost, heard_tick, doubts_asked, operations = unpack(batch, 1, 8)

local SECOND, DAY = 1000000, 86400000000
local SOON = SECOND
local NEVER = -1
local NOBODY_KNOWS_S = 3456000

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * SECOND + tonumber(clock[2])

-- From here on leases may end; later than now when the store has been away, so that the living can speak first.
local reaps = true

-- The number of this batch among those of all clients. It is about the time, but it always rises, and goes on from what
-- clients have heard when this server has forgotten it.
local tick = 0

-- The tick at which this memory began: empty, or with what was left of the one before it.
local lost_at = 0

-- See 3_heard. None while this batch does what it is not about, as ending leases.
local doubts = {}

-- Counters that this batch has touched, by key: loaded once, written back once, when all its operations are done.
local loaded = {}
local crossings = {}
local changed_budgets = {}

-- Redis 6 raises texts, Redis 7 tables.
local function text_of(fault)
  if type(fault) == 'table' then return tostring(fault.err) end
  return tostring(fault)
end

local function expire(key, us)
  redis.call('PEXPIRE', key, math.ceil(us / 1000))
end
