-- ARGV: '' to read, 'set' or 'change'; then the settings as they are kept, count, and pairs of field and
-- value; count, and pairs of lane and weight.
local how, text = ARGV[1], ARGV[2]
local kept = call('HGET', KEYS[1], 'conf')
if how == '' then return {'held', kept} end
if how == 'set' and M.set then return {'held', kept} end
local pairs_at, count = 4, tonumber(ARGV[3])
local fields = {'conf', text, 'set', '1'}
local asked = {}
for i = pairs_at, pairs_at + 2 * count - 1, 2 do
  asked[ARGV[i]] = ARGV[i + 1]
  fields[#fields + 1] = ARGV[i]
  fields[#fields + 1] = ARGV[i + 1]
end
local differs = asked.unique ~= M.unique or asked.order ~= M.order
if M.set and differs and (call('EXISTS', key('jobs'), key('keys')) > 0) then return {'in use', kept} end
see_type('weights', 'hash')
call('HSET', KEYS[1], unpack(fields))
call('DEL', key('weights'))
local weights, at = {}, pairs_at + 2 * count
for i = at + 1, at + 2 * tonumber(ARGV[at]) do weights[#weights + 1] = ARGV[i] end
many('HSET', key('weights'), weights)
return {'kept', text}
