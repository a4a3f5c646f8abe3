-- ARGV: count, then ids.
let_in_when_full()
local ids, answers = {}, {}
for i = 1, tonumber(ARGV[1]) do ids[i] = ARGV[i + 1] end
fetch(ids, true)
for i, id in ipairs(ids) do
  local r = R[id]
  if not r or r.gone then
    answers[i] = 'unknown'
  else
    answers[i] = delete(r) and 'deleted' or 'leased'
  end
end
flush()
return answers
