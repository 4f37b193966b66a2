"""A residual network of the shape of ResNet-18 (He et al. 2015, https://arxiv.org/abs/1512.03385), narrower."""

OUTPUTS = ("logits",)
OUTPUT_SYMBOLS = {"logits": {0: "N"}}


def model(recipe, source):
    from torch import nn

    from worker.exporters import weights

    class Block(nn.Module):
        def __init__(self, ins, outs, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(ins, outs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outs)
            self.conv2 = nn.Conv2d(outs, outs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outs)
            self.relu = nn.ReLU()
            self.shortcut = nn.Sequential()
            if stride != 1 or ins != outs:
                self.shortcut = nn.Sequential(nn.Conv2d(ins, outs, 1, stride, bias=False), nn.BatchNorm2d(outs))

        def forward(self, x):
            out = self.relu(self.bn1(self.conv1(x)))
            return self.relu(self.bn2(self.conv2(out)) + self.shortcut(x))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(
                nn.Conv2d(3, 16, 7, 2, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
            )
            self.layers = nn.Sequential(
                Block(16, 16, 1), Block(16, 16, 1), Block(16, 32, 2), Block(32, 32, 1),
                Block(32, 64, 2), Block(64, 64, 1),
            )  # fmt: skip
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.head = nn.Linear(64, 100)

        def forward(self, image):
            return self.head(self.pool(self.layers(self.stem(image))).flatten(1))

    return weights.fill_torch(Net(), "residual_cnn")


def inputs(recipe, source, shapes, seed):
    from worker.exporters import weights

    return [weights.smooth_image(shapes["image"], seed)]
