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
