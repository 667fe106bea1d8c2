import torch
from gfm_pretrain.snapshots.state import averages_of, part_state, restore_part


def adam(weight: torch.nn.Parameter) -> torch.optim.AdamW:
    return torch.optim.AdamW([weight], lr=0.1)


def descend(optimizer: torch.optim.AdamW, weight: torch.nn.Parameter, n_steps: int) -> None:
    for _ in range(n_steps):
        optimizer.zero_grad()
        (weight**2).sum().backward()
        optimizer.step()


def new_weight(*values: float) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.tensor(values))


def state_of(weight, average, optimizer) -> dict[str, torch.Tensor]:
    state = part_state({"w": weight}, {weight: average}, optimizer)
    return {name: tensor.detach().clone() for name, tensor in state}


def test_an_optimizer_goes_on_where_it_was():
    weight, copy = new_weight(1.0, -2.0), new_weight(0.0, 0.0)
    optimizer, restored = adam(weight), adam(copy)
    descend(optimizer, weight, 3)
    average = torch.zeros(2)
    state = state_of(weight, torch.tensor([5.0, 6.0]), optimizer)
    restore_part(state, {"w": copy}, {copy: average}, restored)
    assert torch.equal(average, torch.tensor([5.0, 6.0]))
    assert torch.equal(averages_of(state)["w"], average)
    descend(optimizer, weight, 3)
    descend(restored, copy, 3)
    assert torch.equal(weight, copy)


def test_what_was_read_is_not_changed_by_training():
    weight = new_weight(1.0, -2.0)
    optimizer = adam(weight)
    descend(optimizer, weight, 1)
    state = state_of(weight, torch.zeros(2), optimizer)
    before = {name: tensor.clone() for name, tensor in state.items()}
    restore_part(state, {"w": weight}, {weight: torch.zeros(2)}, optimizer)
    descend(optimizer, weight, 2)
    assert all(torch.equal(state[name], tensor) for name, tensor in before.items())


def test_the_state_before_the_first_step_is_no_state():
    weight, other = new_weight(1.0, -2.0), new_weight(1.0, -2.0)
    restored = adam(other)
    state = state_of(weight, torch.zeros(2), adam(weight))
    restore_part(state, {"w": other}, {other: torch.zeros(2)}, restored)
    descend(adam(weight), weight, 2)
    descend(restored, other, 2)
    assert torch.equal(weight, other)
