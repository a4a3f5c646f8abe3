-- ARGV: count, then ids.
local ids = {}
for i = 1, tonumber(ARGV[1]) do ids[i] = ARGV[i + 1] end
return describe(ids)
