-- What short ways have in common. Nothing here can fail where the types were looked at before.

-- Let a lane have so many left that are ready; one with none leaves.
local function lane_left(lane, left)
  if left > 0 then
    call('HSET', key('lanes'), lane, left)
  else
    call('ZREM', key('ring'), lane)
    call('ZREM', key('names'), lane)
    call('HDEL', key('lanes'), lane)
  end
end

-- When the first of `scheduled` or `leased` is due, of so many; nil if there is none.
local function first_of(name, count)
  return count and count ~= '0' and call('ZRANGE', key(name), 0, 0, 'WITHSCORES')[2] or nil
end

-- The key of what is not there while it counts none, or one of nothing: to ask whether there is something,
-- of another type or not counted, costs less than to read it.
local function to_be_made(name, count)
  return key((not count or count == '0') and name or 'none')
end

-- The key that links hold in front, or false: as texts of up to 255 bytes are packed, it is read without a
-- table of all that is behind it, which for a hundred jobs is a tenth of a claim.
local function key_in(links)
  local list, kind, size = byte(links, 1, 3)
  if list - list % 16 == 144 then
    if kind >= 160 and kind < 192 then return sub(links, 3, kind - 158) end
    if kind == 217 then return sub(links, 4, 3 + size) end
  end
  return cmsgpack.unpack(links)[1]
end
