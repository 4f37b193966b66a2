"""A U-Net (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597) with both ways of going up in size:

bilinear resize to the size of the skip connection, and a transposed convolution at the end.
"""

OUTPUTS = ("logits",)
OUTPUT_SYMBOLS = {"logits": {0: "N"}}


def model(recipe, source):
    import torch
    from torch import nn
    from torch.nn import functional

    from worker.exporters import weights

    def double(ins, outs):
        return nn.Sequential(
            nn.Conv2d(ins, outs, 3, 1, 1, bias=False), nn.BatchNorm2d(outs), nn.ReLU(),
            nn.Conv2d(outs, outs, 3, 1, 1, bias=False), nn.BatchNorm2d(outs), nn.ReLU(),
        )  # fmt: skip

    class UNet(nn.Module):
        def __init__(self, width=16, classes=4):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.ReLU())
            self.down1 = double(width, width)
            self.down2 = double(width, 2 * width)
            self.down3 = double(2 * width, 4 * width)
            self.pool = nn.MaxPool2d(2)
            self.up2 = double(6 * width, 2 * width)
            self.up1 = double(3 * width, width)
            self.full = nn.ConvTranspose2d(width, width, 4, 2, 1)
            self.head = nn.Conv2d(width, classes, 1)

        def forward(self, image):
            one = self.down1(self.stem(image))
            two = self.down2(self.pool(one))
            three = self.down3(self.pool(two))
            up = functional.interpolate(three, size=two.shape[-2:], mode="bilinear", align_corners=False)
            up = self.up2(torch.cat([up, two], 1))
            up = functional.interpolate(up, size=one.shape[-2:], mode="bilinear", align_corners=False)
            up = self.up1(torch.cat([up, one], 1))
            return self.head(functional.relu(self.full(up)))

    return weights.fill_torch(UNet(), "segmenter")


def inputs(recipe, source, shapes, seed):
    from worker.exporters import weights

    return [weights.smooth_image(shapes["image"], seed)]
