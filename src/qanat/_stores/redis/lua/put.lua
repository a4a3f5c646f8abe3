-- ARGV: client ('' without), number, then id, rest and links of each job.
local client, number = ARGV[1], tonumber(ARGV[2])
local answer = answered(client, number, 1)
if answer then return answer end
see_type('answers', 'hash')
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

-- Jobs without lane, priority, delay and links, in a queue where nothing can stand in their way but their
-- id: 2 us less a job than by `place`.
local stored, listed, n = {}, {}, 0
local step = M.order == 'lifo' and -1 or 1
local order = 4503599627370496 + step * M.orders

local function close_run()
  if n == 0 then return end
  M.orders, M.put, M.ready = M.orders + n, M.put + n, M.ready + n
  enter_lane('', n)
  if to_hash.jobs or to_list['list:'] then
    for i = 1, n do
      add(to_hash, 'jobs', stored[2 * i - 1], stored[2 * i])
      add(to_list, 'list:', listed[i])
    end
  else
    to_hash.jobs, to_list['list:'] = stored, listed
  end
  stored, listed, n = {}, {}, 0
end

for i = 4, last, 3 do
  local id, rest, links = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if links == '' and byte(rest) == 0 and taken[id] == false and not by_due then
    taken[id] = NEW
    order, n = order + step, n + 1
    local text = pack('>I7', order)
    stored[2 * n - 1], stored[2 * n] = id, text .. TIME_OF_PUT .. rest
    listed[n] = text .. id
  else
    close_run()
    local why, other = place(id, rest, links)
    if why ~= '' then refused[#refused + 1] = {(i - 4) / 3, why, other} end
    order = 4503599627370496 + step * M.orders
  end
end
close_run()
answer = cmsgpack.pack(refused)
if made then add(to_hash, 'meta', 'set', '1') end
flush()
remember(client, number, 1, answer)
return {made and 'made' or 'ok', answer}
