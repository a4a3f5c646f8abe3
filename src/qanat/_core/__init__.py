"""The pure core: values, rules, the Dispatcher and the ports. No clock, no loop, no I/O."""
