"""The router: places chats on workers, moves their tokens to clients, and goes on elsewhere when a worker fails."""
