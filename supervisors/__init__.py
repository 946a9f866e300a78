"""OTP-style supervision over Pykka."""

__all__: list[str] = []
