-- ARGV: number of the state, n.
let_in_when_full()
local state, n = tonumber(ARGV[1]), tonumber(ARGV[2])
local ids, read = {}, {}

local function take(members, room)
  for i = 1, math.min(room, #members) do ids[#ids + 1] = sub(members[i], 8) end
end

if state == READY then
  take(call('ZRANGE', key('suspects'), 0, n - 1), n)
  for _, lane in ipairs(call('ZRANGE', key('ring'), 0, n - 1)) do
    if #ids >= n then break end
    take(call('ZRANGE', key('line:' .. lane), 0, n - #ids - 1), n)
    if #ids < n then
      local entries = call('LRANGE', key('list:' .. lane), 0, n - #ids - 1)
      -- Also those of jobs that left otherwise go, or the next call would meet them again.
      read[lane] = #entries
      take(entries, n)
    end
  end
else
  take(call('ZRANGE', key(STATES[state]), 0, n - 1), n)
end
fetch(ids, true)
local deleted = 0
for _, id in ipairs(ids) do
  local r = R[id]
  if r and not r.gone and r.state == state and delete(r) then deleted = deleted + 1 end
end
for lane, entries in pairs(read) do
  see_type('list:' .. lane, 'list')
  call('LTRIM', key('list:' .. lane), entries, -1)
end
local left = state == READY and M.ready or call('ZCARD', key(STATES[state])) - deleted
-- Ended jobs whose records had gone were still counted.
if state >= DONE and left <= 0 then
  M.removed = M.removed + M[STATES[state]]
  M[STATES[state]] = 0
end
flush()
-- Entries that told of nothing made no room for others: there may be more.
local more = left > 0 and deleted < n and #ids > deleted
return {deleted, more and 1 or 0}
