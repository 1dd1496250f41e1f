"""Progress bars of an evaluation."""

from tqdm import tqdm


class bar:
    """tqdm that is told single steps and losses too."""

    def __init__(self, total: int, what: str, unit: str):
        self.tqdm = tqdm(total=total, desc=what, unit=unit)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.tqdm.close()

    def update(self, count: int = 1) -> None:
        self.tqdm.update(count)

    def loss(self, value: float) -> None:
        self.tqdm.set_postfix(loss=f"{value:.3f}", refresh=False)
        self.tqdm.update()
