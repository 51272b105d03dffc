"""One training whose weights are sharded over its processes: FSDP2, through Lightning."""

from typing import final

from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard

#: What ``trainer.strategy`` calls it.
FSDP2 = "fsdp2"


@final
class FullySharded(ModelParallelStrategy):
    """Each process holds a share of every weight, its gradient and the optimizer's state (Rajbhandari et al. 2020).

    A checkpoint is gathered by torch.distributed.checkpoint on the first process, and is one file as every other, so
    that any number of processes can resume from it.
    """

    def __init__(self) -> None:
        super().__init__(data_parallel_size=1, tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Shard over all processes, whose number is known only now."""
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


StrategyRegistry.register(FSDP2, FullySharded, description="weights sharded over the processes")
