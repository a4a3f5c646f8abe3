call('HDEL', KEYS[1], 'paused')
wake(WAKES)
return 1
