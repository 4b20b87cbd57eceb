"""What the fork server of a command imports (xla.fork_server): all that checking and replicas need, and no device."""

from xlatrain.xla.fork_server import import_ahead, serve_only_children
from xlatrain.xla.lean import without_inductor

serve_only_children()
import_ahead("torch", "xlatrain.models.create", "xlatrain.preflight.check", "xlatrain.preflight.finetune")
with without_inductor():
    import_ahead("torch_xla._internal.pjrt")
import_ahead("xlatrain.engine.train", "xlatrain.xla.torch_xla_replica")
