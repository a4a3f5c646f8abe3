-- What most calls ask for is plain, and goes the short way: `shortly` of the part before this one. It leaves
-- exactly what the long way leaves, without the functions and tables of that: they are made anew for each
-- call, and cost more than one job. It gives nil, and has written nothing, where something is not plain.
-- What it raises, the long way raises too, with more words.
--
-- Types are looked at by reading what is about to be written.
local is_well, told = pcall(shortly)
if is_well and told then return told end
