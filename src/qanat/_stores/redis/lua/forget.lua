-- ARGV: count, then keys.
let_in_when_full()
local names, ids, forgotten = {}, {}, 0
for i = 1, tonumber(ARGV[1]) do names[i] = ARGV[i + 1] end
look_at_holders(names)
for _, name in ipairs(names) do
  if held_by[name] then ids[#ids + 1] = held_by[name] end
end
fetch(ids, true)
for _, name in ipairs(names) do
  local id = holder(name)
  local r = id and R[id]
  if id and (not r or r.state >= DONE or not r.links or r.links.key ~= name) then
    keys[name] = false
    forgotten = forgotten + 1
  end
end
flush()
return forgotten
