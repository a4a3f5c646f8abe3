"""The engine: the thin driver that turns the Dispatcher in real time, on asyncio or trio."""
