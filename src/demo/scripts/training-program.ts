/** What the demo's agent writes: logistic regression by stochastic gradient descent, in nothing but Python and trackio. */
export const trainingProgram = `"""Logistic regression by stochastic gradient descent, on two synthetic clouds of points, from a wrong start."""
import json
import math
import random
import sys

sys.path.insert(0, "/app/.claude/scripts")
try:
    import trackio
    from setup_trackio import setup_trackio

    run_dir = setup_trackio("demo", None)
except ImportError as error:
    # the training is worth its time without a curve, too
    run_dir = None
    print(f"no metrics: {error}", flush=True)

random.seed(7)
weights = [0.0, 2.0]
bias = 0.0
rate = 0.002


def predict(x, y):
    return 1 / (1 + math.exp(-(weights[0] * x + weights[1] * y + bias)))


for epoch in range(1, 41):
    points = [(random.gauss(c, 1), random.gauss(-c, 1), label) for label, c in ((0, -1), (1, 1)) for _ in range(100)]
    random.shuffle(points)
    loss = correct = 0
    for x, y, label in points:
        p = predict(x, y)
        loss -= math.log(p if label else 1 - p) / len(points)
        correct += (p > 0.5) == (label == 1)
        weights[0] -= rate * (p - label) * x
        weights[1] -= rate * (p - label) * y
        bias -= rate * (p - label)
    print(f"epoch {epoch} loss {loss:.4f}", flush=True)
    if run_dir:
        trackio.log({"loss": loss, "accuracy": correct / len(points)}, step=epoch)

if run_dir:
    (run_dir / "checkpoint" / "weights.json").write_text(json.dumps({"weights": weights, "bias": bias}))
    trackio.finish()
    print(f"metrics: project demo, run {run_dir.name}")
`;
