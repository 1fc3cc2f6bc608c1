/** What the demo's agent writes: logistic regression by stochastic gradient descent, in nothing but Python. */
export const trainingProgram = `"""Logistic regression by stochastic gradient descent, on two synthetic clouds of points."""
import math
import random

random.seed(7)
points = [(random.gauss(c, 1.0), random.gauss(-c, 1.0), label) for label, c in ((0, -1.0), (1, 1.0)) for _ in range(200)]
weights = [0.0, 0.0]
bias = 0.0
rate = 0.001


def predict(x, y):
    return 1 / (1 + math.exp(-(weights[0] * x + weights[1] * y + bias)))


for epoch in range(1, 11):
    random.shuffle(points)
    loss = 0.0
    for x, y, label in points:
        p = predict(x, y)
        loss -= math.log(p if label else 1 - p)
        error = p - label
        weights[0] -= rate * error * x
        weights[1] -= rate * error * y
        bias -= rate * error
    print(f"epoch {epoch} loss {loss / len(points):.4f}", flush=True)
`;
