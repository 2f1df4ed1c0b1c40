"""The networks: small residual ones with squeeze and excitation."""

import torch
import torch.nn.functional as F
from torch import nn


class Conv(nn.Sequential):
    """Convolution, batch normalisation and, unless told otherwise, ReLU."""

    def __init__(self, inputs, outputs, size=3, stride=1, relu=True):
        layers = [nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs)]
        super().__init__(*layers, *([nn.ReLU()] if relu else []))


class Block(nn.Module):
    """Two convolutions around a way past them; each channel of what they add is weighed by what the whole face shows."""

    def __init__(self, channels):
        super().__init__()
        self.first, self.second = Conv(channels, channels), Conv(channels, channels, relu=False)
        self.squeeze, self.excite = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)
        nn.init.zeros_(self.second[1].weight)  # starts as the identity

    def forward(self, x):
        y = self.second(self.first(x))
        weight = self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True)))).sigmoid()
        return F.relu(x + y * weight)


class Network(nn.Module):
    """`stem`: convolutions before the blocks as (channels, size, stride); `stages`: blocks as (channels, number);
    `head`: the last convolution as (channels, size)."""

    def __init__(self, stem, stages, head, classes=8, dropout=0.2):
        super().__init__()
        layers, width = [], 1
        for channels, size, stride in stem:
            layers.append(Conv(width, channels, size, stride))
            width = channels
        for channels, number in stages:
            if channels != width:
                layers.append(Conv(width, channels, 3, 2))
            layers += [Block(channels) for _ in range(number)]
            width = channels
        layers.append(Conv(width, head[0], head[1]))
        self.features, self.dropout, self.classes = nn.Sequential(*layers), nn.Dropout(dropout), nn.Linear(head[0], classes)

    def forward(self, x):
        return self.classes(self.dropout(self.features(x).mean((2, 3))))


# 80 million multiplications a face.
NARROW = dict(stem=[(16, 3, 1), (32, 3, 2)], stages=[(32, 2), (64, 2), (128, 2)], head=(192, 3))
# 156 million multiplications a face.
WIDE = dict(stem=[(24, 3, 1), (48, 3, 2)], stages=[(48, 2), (96, 2), (160, 2)], head=(192, 3))
