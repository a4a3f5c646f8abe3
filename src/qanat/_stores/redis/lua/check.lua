-- ARGV: '1' to mend what is found. Counts are mended first and keys and families after the indexes, as
-- the latter move jobs and count as they go.
look_at_records()
for _, name in ipairs({'suspects', 'scheduled', 'leased', 'waiting', 'done', 'dead', 'cancelled'}) do
  look_for_strays(name)
end
look_at_counts()
look_at_lanes()
look_at_keys()
look_at_families()
if ARGV[1] == '1' and #words > 0 then
  for _, mend in ipairs(mending) do mend() end
  M.put = M.removed
  for _, name in ipairs(STATES) do M.put = M.put + M[name] end
  flush()
end
return words
