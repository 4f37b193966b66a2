"""Two pre-norm transformer encoder blocks (Vaswani et al. 2017; Xiong et al. 2020, https://arxiv.org/abs/2002.04745)."""

OUTPUTS = ("features",)
OUTPUT_SYMBOLS = {"features": {0: "N", 1: "S"}}


def model(recipe, source):
    from torch import nn
    from torch.nn import functional

    from worker.exporters import weights

    class Block(nn.Module):
        def __init__(self, width, heads):
            super().__init__()
            self.heads, self.size = heads, width // heads
            self.norm1 = nn.LayerNorm(width)
            self.qkv = nn.Linear(width, 3 * width)
            self.out = nn.Linear(width, width)
            self.norm2 = nn.LayerNorm(width)
            self.up = nn.Linear(width, 4 * width)
            self.down = nn.Linear(4 * width, width)

        def forward(self, x):
            batch, length, width = x.shape
            qkv = self.qkv(self.norm1(x)).reshape(batch, length, 3, self.heads, self.size).permute(2, 0, 3, 1, 4)
            mixed = functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
            x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
            return x + self.down(functional.gelu(self.up(self.norm2(x))))

    class Encoder(nn.Module):
        def __init__(self, width=128, heads=4, depth=2):
            super().__init__()
            self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(depth)])
            self.norm = nn.LayerNorm(width)

        def forward(self, tokens):
            return self.norm(self.blocks(tokens))

    return weights.fill_torch(Encoder(), "encoder")
