-- What scripts that go the long way begin with: the settings and counters of the queue.
--
-- A script reads first, and keeps what it decides in tables; `flush` then writes all of it, after a look
-- at the type of every key that it is about to write, because Redis takes nothing back when a later
-- command fails. Bodies are never read here: they are copied as they came.
-- Texts are compared as numbers or not at all: `<` on texts follows the server's locale.
local SCHEDULED, READY, LEASED, WAITING, DONE, DEAD, CANCELLED = 1, 2, 3, 4, 5, 6, 7
local STATES = {'scheduled', 'ready', 'leased', 'waiting', 'done', 'dead', 'cancelled'}
-- Values in one call: Lua can unpack 7,990.
local MOST = 2000

-- The settings and counters of the queue; those from `orders` on are numbers, 0 if they are not there.
local FIELDS = {
  'paused', 'unique', 'order', 'max_attempts', 'max_age', 'max_crashes', 'keep', 'keep_dead', 'set',
  'orders', 'tokens', 'turns', 'given', 'put', 'removed', 'repeats',
  'scheduled', 'ready', 'leased', 'waiting', 'done', 'dead', 'cancelled',
}
local SCHEDULED_AT, READY_AT = 17, 18
local M, held = {}, call('HMGET', KEYS[1], unpack(FIELDS))
for i, field in ipairs(FIELDS) do
  if i >= 10 then held[i] = tonumber(held[i] or 0) end
  M[field] = held[i]
end
-- What a queue has that was never set: the defaults of Conf. No number is no bound.
M.unique, M.order = M.unique or '', M.order or 'fifo'
M.max_attempts = M.max_attempts and tonumber(M.max_attempts) or (not M.max_attempts and 20 or nil)
M.max_age = tonumber(M.max_age or '')
M.max_crashes = tonumber(M.max_crashes or 5)
local by_due = M.order == 'due'
M.keep = tonumber(M.keep or 0)
M.keep_dead = tonumber(M.keep_dead or '')

-- Many values in one call, in chunks; the arguments of a pair stay together, as MOST is even.
local function many(command, name, values)
  for i = 1, #values, MOST do
    call(command, name, unpack(values, i, math.min(i + MOST - 1, #values)))
  end
end

-- The values of many fields, in their order; false for those that are not there.
local function fields_of(command, name, ids, found)
  found = found or {}
  for i = 1, #ids, MOST do
    local part = call(command, name, unpack(ids, i, math.min(i + MOST - 1, #ids)))
    for j = 1, #part do found[i + j - 1] = part[j] end
  end
  return found
end

-- A full server refuses a script at its first write if that could grow, and lets it run to its end if
-- not. Deeds that make room in the end begin with a write that frees nothing and never fails.
local function let_in_when_full() call('DEL', key('none')) end
