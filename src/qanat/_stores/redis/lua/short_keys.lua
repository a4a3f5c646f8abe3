-- What short ways do with keys that make jobs unique.

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
