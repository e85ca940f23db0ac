"""The optimizer: AdamW in one pass over each weight, and over those wordpieces alone that a batch has."""

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

WARM_UP_SHARE = 0.05


def build_optimizer(learning_rate: float, weight_decay: float, steps: int) -> "keras.optimizers.Optimizer":
    """Return AdamW with a linear warm-up and a cosine decay to 0; each gradient has norm 1 at most.

    Embeddings are not decayed, and of them only the rows that a batch has are touched: of 30,522 wordpieces,
    a batch of 64 tweets has about 1,000. Their moments stand still meanwhile, so a rare wordpiece takes
    larger steps than with Adam proper.

    Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization (2019).

    Args:
        learning_rate: Peak of the schedule.
        weight_decay: Share of a weight that is taken off in a step, times the learning rate.
        steps: Length of the schedule.
    """
    import keras

    warm_up = max(1, round(WARM_UP_SHARE * steps))
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm_up), warmup_target=learning_rate, warmup_steps=warm_up
    )
    optimizer: keras.optimizers.Optimizer = _adamw()(schedule, weight_decay, clipnorm=1.0, name="adamw")
    optimizer.exclude_from_weight_decay(var_names=["embeddings"])
    return optimizer


@cache
def _adamw() -> Any:
    """Return the class; made on demand, as importing Keras takes seconds."""
    import keras
    import tensorflow as tf

    ops = tf.raw_ops

    class SparseAdamW(keras.optimizers.AdamW):  # type: ignore[misc]  # Keras has no types
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            number = self._get_variable_index(variable)
            first, second = self._momentums[number].value.handle, self._velocities[number].value.handle
            step = tf.cast(self.iterations.value + 1, variable.dtype)
            rate = tf.cast(learning_rate, variable.dtype)
            powers = tf.pow(tf.cast(self.beta_1, variable.dtype), step), tf.pow(self.beta_2, step)
            if not isinstance(gradient, tf.IndexedSlices):
                ops.ResourceApplyAdam(
                    var=variable.handle,
                    m=first,
                    v=second,
                    beta1_power=powers[0],
                    beta2_power=powers[1],
                    lr=rate,
                    beta1=self.beta_1,
                    beta2=self.beta_2,
                    epsilon=self.epsilon,
                    grad=gradient,
                )
                return
            rows, place = tf.unique(gradient.indices)
            slopes = tf.math.unsorted_segment_sum(gradient.values, place, tf.size(rows))
            old = [
                ops.ResourceGather(resource=moment, indices=rows, dtype=variable.dtype)
                for moment in (first, second)
            ]
            mean = old[0] + (slopes - old[0]) * (1 - self.beta_1)
            square = old[1] + (tf.square(slopes) - old[1]) * (1 - self.beta_2)
            for moment, new in ((first, mean), (second, square)):
                ops.ResourceScatterUpdate(resource=moment, indices=rows, updates=new)
            rate = rate * tf.sqrt(1 - powers[1]) / (1 - powers[0])
            ops.ResourceScatterSub(
                resource=variable.handle,
                indices=rows,
                updates=rate * mean / (tf.sqrt(square) + self.epsilon),
            )

    return SparseAdamW
