"""One training whose weights are sharded over its processes: FSDP2, through Lightning."""

from pathlib import Path
from typing import Any, final

import torch
from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.optim import Optimizer

from unvanish.extras import extra
from unvanish.training import shards

#: What ``trainer.strategy`` calls it.
FSDP2 = "fsdp2"


@final
class FullySharded(ModelParallelStrategy):
    """Each process holds a share of every weight, its gradient and the optimizer's state (Rajbhandari et al. 2020).

    Each writes its share of a checkpoint, too, by torch.distributed.checkpoint; any number of processes can resume from
    it, and one process can put it together (see ``shards``).
    """

    def __init__(self) -> None:
        super().__init__(data_parallel_size=1, tensor_parallel_size=1, save_distributed_checkpoint=True)

    def setup_environment(self) -> None:
        """Shard over all processes, whose number is known only now."""
        extra("safetensors")  # in which the checkpoints are written
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def shard(self, network: nn.Module) -> None:
        """Shard a network block by block, unless it already is: a block's weights are whole only while it runs."""
        if isinstance(network, FSDPModule):
            return
        if self._layer_sync is not None:  # trainer.sync_batchnorm
            self._layer_sync.apply(network)
        mesh = self.device_mesh["data_parallel"]
        lists = [module for module in network.modules() if isinstance(module, nn.ModuleList)]
        for block in [block for blocks in lists for block in blocks if next(block.parameters(), None) is not None]:
            fully_shard(block, mesh=mesh)
        fully_shard(network, mesh=mesh)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The shares of the weights that are here."""
        assert self.model is not None
        return self.model.state_dict()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The shares that are here, in the optimizer's own order of weights, as every other strategy has it.

        Lightning would number them in the network's order, in which no other strategy can load them.
        """
        return getattr(optimizer, "_optimizer", optimizer).state_dict()

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Write the shards, then the file that makes them count."""
        path = Path(self.broadcast(filepath))
        shards.write(checkpoint, path)
        if self.is_global_zero:
            self.checkpoint_io.save_checkpoint(checkpoint, path)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Load this process's shares, whatever number of processes has written them, and if only one."""
        path = Path(self.broadcast(checkpoint_path))
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        assert self.model is not None
        live = {f"state_dict.{name}": weight for name, weight in self.model.state_dict().items()}
        states = checkpoint["optimizer_states"][: len(self.optimizers)]
        for number, (optimizer, state) in enumerate(zip(self.optimizers, states, strict=True)):
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            for index, values in state["state"].items():
                live |= {f"optimizer_states.{number}.state.{index}.{key}": weights[index].detach() for key in values}
        shards.restore(checkpoint, live, path)
        self.model.load_state_dict(checkpoint["state_dict"])
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict(state)
        return checkpoint


StrategyRegistry.register(FSDP2, FullySharded, description="weights sharded over the processes")
