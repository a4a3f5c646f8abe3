-- The time on the clock of the server that holds this key.
return now
