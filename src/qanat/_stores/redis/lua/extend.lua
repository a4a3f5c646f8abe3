-- ARGV: lease, count, then of each lease id, token and note ('0', or '1' and the note).
let_in_when_full()
local until_at, count = now + tonumber(ARGV[1]), tonumber(ARGV[2])
local ids, lost, cancelled, leases, notes = {}, {}, {}, {}, {}
for i = 1, count do ids[i] = ARGV[3 * i] end
fetch(ids)
for i = 1, count do
  local id, token, note = ids[i], tonumber(ARGV[3 * i + 1]), ARGV[3 * i + 2]
  local r = live(id, token)
  if r then
    leases[#leases + 1] = until_at
    leases[#leases + 1] = pack('>I7', token) .. id
    if byte(note) == 49 then
      notes[#notes + 1] = id
      notes[#notes + 1] = sub(note, 2)
    end
    if r.more.c then cancelled[#cancelled + 1] = id end
  else
    lost[#lost + 1] = id
  end
end
see_type('leased', 'zset')
see_type('note', 'hash')
many('ZADD', key('leased'), leases)
many('HSET', key('note'), notes)
return {lost, cancelled}
