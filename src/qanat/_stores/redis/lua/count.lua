-- Counts of the seven states, put, removed; then how many have fallen due, and whether the queue is paused.
local out = {}
for i, name in ipairs(STATES) do out[i] = M[name] end
out[#out + 1] = M.put
out[#out + 1] = M.removed
out[#out + 1] = call('ZCOUNT', key('scheduled'), '-inf', now) + call('ZCOUNT', key('leased'), '-inf', now)
out[#out + 1] = M.paused or false
return out
