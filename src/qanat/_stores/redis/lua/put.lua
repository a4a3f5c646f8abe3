-- ARGV: client ('' without), number, then id, rest and links of each job.
local client, number = ARGV[1], tonumber(ARGV[2])
local answer = answered(client, number, 1)
if answer then return answer end
see_type('answers', 'hash')
see_type('stamps', 'zset')
local last = tonumber(ARGV[3]) * 3 + 3
local ids, parents, names = {}, {}, {}
for i = 4, last, 3 do
  ids[#ids + 1] = ARGV[i]
  if ARGV[i + 2] ~= '' then
    local l = cmsgpack.unpack(ARGV[i + 2])
    if l[5] then parents[#parents + 1] = l[5] end
    if l[1] and M.unique ~= '' then names[#names + 1] = l[1] end
  end
end
look_up(ids)
fetch(parents)
look_at_holders(names)
local refused, made = {}, not M.set
for i = 4, last, 3 do
  local why, other = place(ARGV[i], ARGV[i + 1], ARGV[i + 2])
  if why ~= '' then refused[#refused + 1] = {(i - 4) / 3, why, other} end
end
answer = cmsgpack.pack(refused)
if made then add(to_hash, 'meta', 'set', '1') end
flush()
remember(client, number, 1, answer)
return {made and 'made' or 'ok', answer}
