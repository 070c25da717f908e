"""The network, with the names and shapes of the published layout: its state_dict is the checkpoint, the dense head left out."""

import json
import math
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

from pictures import CHARACTERS

FOLDER = Path(__file__).resolve().parent.parent  # the bundled model: its config.json is the shape
DENSE_HEAD = 'dense_head'  # for training only
SLOTS = 4  # columns of 7 pixels in a vision row of 28


def token(content):
    return json.loads((FOLDER / 'added_tokens.json').read_text())[content]


END, PAD = token('<|end|>'), token('<pad>')
BEFORE = torch.tensor([token('<|prompt|>'), token('<img>')])
AFTER = torch.tensor(
    [token('</img>'), CHARACTERS.index('\n')] + [CHARACTERS.index(c) for c in 'Read the text.'] + [END, token('<|answer|>')]
)


class RmsFunction(torch.autograd.Function):
    """RMSNorm with its own backward pass: fewer passes over memory than autograd's."""

    @staticmethod
    def forward(ctx, x, weight, eps):
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).square_()
        scale = square.div_(x.shape[-1]).add_(eps).rsqrt_()
        y = x * scale.to(x.dtype)
        ctx.save_for_backward(y, scale, weight)
        return (y * weight.to(x.dtype)).bfloat16() if torch.is_autocast_enabled('cpu') else y * weight

    @staticmethod
    def backward(ctx, grad):
        y, scale, weight = ctx.saved_tensors
        grad = grad.to(y.dtype)
        weight_grad = torch.einsum('nh,nh->h', grad.reshape(-1, grad.shape[-1]), y.reshape(-1, grad.shape[-1]))
        grad = grad * weight
        mean = (grad * y).mean(-1, keepdim=True)
        return (grad - y * mean).mul_(scale), weight_grad.to(weight.dtype), None


class RmsNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        return RmsFunction.apply(x, self.weight, self.eps)


def attention(q, k, v, causal=False):
    """q, k, v: (batch, heads, tokens, head size). Written out while training: faster than the fused one on CPUs."""
    if not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    b, h, n, d = q.shape
    m = k.shape[2]
    scores = torch.bmm((q * d**-0.5).reshape(b * h, n, d), k.reshape(b * h, m, d).transpose(1, 2))
    if causal:
        scores = scores.masked_fill(torch.ones(n, m, dtype=torch.bool).triu(1), -1e4)
    weights = torch.softmax(scores, -1, dtype=scores.dtype).to(v.dtype)
    return torch.bmm(weights, v.reshape(b * h, m, d)).view(b, h, n, d)


class VisionAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads = c['num_attention_heads']
        self.qkv = nn.Linear(c['hidden_size'], 3 * c['hidden_size'])
        self.proj = nn.Linear(c['hidden_size'], c['hidden_size'])

    def forward(self, x):
        b, n, width = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(attention(q, k, v).transpose(1, 2).reshape(b, n, width))


class VisionMlp(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.fc1 = nn.Linear(c['hidden_size'], c['intermediate_size'])
        self.fc2 = nn.Linear(c['intermediate_size'], c['hidden_size'])

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class VisionLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        width = c['hidden_size']
        self.norm1 = nn.LayerNorm(width, eps=c['layer_norm_eps'])
        self.norm2 = nn.LayerNorm(width, eps=c['layer_norm_eps'])
        self.attn = VisionAttention(c)
        self.mlp = VisionMlp(c)
        self.ls1 = nn.Parameter(torch.ones(width))
        self.ls2 = nn.Parameter(torch.ones(width))

    def forward(self, x):
        x = x + self.ls1 * self.attn(self.norm1(x))
        return x + self.ls2 * self.mlp(self.norm2(x))


class Embeddings(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.patch = c['patch_size']
        self.grid = c['image_size'] // self.patch
        width = c['hidden_size']
        self.class_embedding = nn.Parameter(torch.empty(1, 1, width))
        self.position_embedding = nn.Parameter(torch.empty(1, self.grid**2 + 1, width))
        self.patch_embedding = nn.Conv2d(3, width, self.patch, self.patch)

    def forward(self, pixels):
        n, g, p = pixels.shape[0], self.grid, self.patch
        # As one product over flattened patches: faster than the convolution, the same numbers.
        x = pixels.view(n, 3, g, p, g, p).permute(0, 2, 4, 1, 3, 5).reshape(n, g * g, 3 * p * p)
        x = F.linear(x, self.patch_embedding.weight.flatten(1), self.patch_embedding.bias)
        return torch.cat([self.class_embedding.to(x.dtype).expand(n, 1, -1), x], 1) + self.position_embedding


class Vision(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embeddings = Embeddings(c)
        self.encoder = nn.ModuleDict({'layers': nn.ModuleList([VisionLayer(c) for _ in range(c['num_hidden_layers'])])})

    def forward(self, pixels):
        """(tiles, 3, side, side), normalised, to (tiles, rows, 4 * width): pixel shuffle included."""
        x = self.embeddings(pixels)
        for layer in self.encoder['layers']:
            x = layer(x)
        n, half, width = x.shape[0], self.embeddings.grid // 2, x.shape[2]
        x = x[:, 1:].view(n, half, 2, half, 2, width)
        return x.permute(0, 1, 3, 2, 4, 5).reshape(n, half * half, 4 * width)


class SelfAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads, self.kv_heads, self.size = c['num_attention_heads'], c['num_key_value_heads'], c['head_dim']
        width = c['hidden_size']
        self.q_proj = nn.Linear(width, self.heads * self.size, bias=False)
        self.k_proj = nn.Linear(width, self.kv_heads * self.size, bias=False)
        self.v_proj = nn.Linear(width, self.kv_heads * self.size, bias=False)
        self.o_proj = nn.Linear(self.heads * self.size, width, bias=False)

    def forward(self, x, cos, sin, cache):
        b, n, _ = x.shape
        half = self.size // 2

        def heads(y, count):
            return y.view(b, n, count, self.size).transpose(1, 2)

        def rotate(y):
            return y * cos + torch.cat([-y[..., half:], y[..., :half]], -1) * sin

        q = rotate(heads(self.q_proj(x), self.heads))
        k = rotate(heads(self.k_proj(x), self.kv_heads))
        v = heads(self.v_proj(x), self.kv_heads)
        causal = n > 1
        if cache is not None:
            if cache:
                k, v = torch.cat([cache['k'], k], 2), torch.cat([cache['v'], v], 2)
                causal = False
            cache.update(k=k, v=v)
        k, v = (y.repeat_interleave(self.heads // self.kv_heads, 1) for y in (k, v))
        return self.o_proj(attention(q, k, v, causal).transpose(1, 2).reshape(b, n, self.heads * self.size))


class Mlp(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_proj = nn.Linear(c['hidden_size'], c['intermediate_size'], bias=False)
        self.up_proj = nn.Linear(c['hidden_size'], c['intermediate_size'], bias=False)
        self.down_proj = nn.Linear(c['intermediate_size'], c['hidden_size'], bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class DecoderLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.input_layernorm = RmsNorm(c['hidden_size'], c['rms_norm_eps'])
        self.post_attention_layernorm = RmsNorm(c['hidden_size'], c['rms_norm_eps'])
        self.self_attn = SelfAttention(c)
        self.mlp = Mlp(c)

    def forward(self, x, cos, sin, cache):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c['vocab_size'], c['hidden_size'])
        self.layers = nn.ModuleList([DecoderLayer(c) for _ in range(c['num_hidden_layers'])])
        self.norm = RmsNorm(c['hidden_size'], c['rms_norm_eps'])
        size = c['head_dim']
        angles = torch.outer(
            torch.arange(c['max_position_embeddings']).float(), c['rope_theta'] ** -(torch.arange(0, size, 2).float() / size)
        )
        self.register_buffer('cos', torch.cat([angles.cos()] * 2, -1), persistent=False)
        self.register_buffer('sin', torch.cat([angles.sin()] * 2, -1), persistent=False)

    def forward(self, x, past=0, caches=None):
        n = x.shape[1]
        cos, sin = (t[past : past + n].to(x.dtype) for t in (self.cos, self.sin))
        for i, layer in enumerate(self.layers):
            x = layer(x, cos, sin, None if caches is None else caches[i])
        return self.norm(x)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        config = json.loads((FOLDER / 'config.json').read_text())
        vision, decoder = config['vision_config'], config['llm_config']
        width = decoder['hidden_size']
        self.side = vision['image_size']
        self.max_tiles = config['max_dynamic_patch']
        self.vision_model = Vision(vision)
        self.mlp1 = nn.Sequential(
            nn.LayerNorm(4 * vision['hidden_size']),
            nn.Linear(4 * vision['hidden_size'], width),
            nn.GELU(),
            nn.Linear(width, width),
        )
        self.language_model = nn.ModuleDict(
            {'model': Decoder(decoder), 'lm_head': nn.Linear(width, decoder['vocab_size'], bias=False)}
        )
        self.dense_head = nn.Linear(width, SLOTS * len(CHARACTERS))
        self.start()

    def start(self):
        layers = {'vision_model': len(self.vision_model.encoder['layers']), 'language_model': len(self.decoder.layers)}
        for name, p in self.named_parameters():
            if name.endswith('class_embedding'):
                nn.init.normal_(p, std=0.02)
            elif name.endswith('position_embedding'):
                nn.init.normal_(p, std=0.2)
            elif name.endswith('embed_tokens.weight'):
                nn.init.normal_(p, std=0.5)
            elif name.endswith('.bias'):
                nn.init.zeros_(p)
            elif p.dim() >= 2:
                std = p[0].numel() ** -0.5
                if name.endswith(('attn.proj.weight', 'fc2.weight', 'o_proj.weight', 'down_proj.weight')):
                    std /= math.sqrt(2 * layers[name.split('.')[0]])  # what is added to the residual stream
                nn.init.normal_(p, std=std)

    @property
    def decoder(self):
        return self.language_model['model']

    def see(self, pixels):
        """(tiles, 3, side, side), normalised, to vision rows (tiles, rows, width)."""
        return self.mlp1(self.vision_model(pixels))

    def prompt(self, vision_rows, after):
        """vision_rows (batch, rows, width), after (batch, tokens) or (tokens) to embeddings of the whole prompt."""
        batch = vision_rows.shape[0]
        embed, dtype = self.decoder.embed_tokens, vision_rows.dtype
        before = embed(BEFORE).expand(batch, -1, -1).to(dtype)
        return torch.cat([before, vision_rows, embed(after).expand(batch, -1, -1).to(dtype)], 1)

    def logits(self, hidden):
        return self.language_model['lm_head'](hidden)

    def published(self):
        """The tensors of the checkpoint, without the head that only training uses."""
        return {k: v.detach() for k, v in self.state_dict().items() if not k.startswith(DENSE_HEAD)}

    @torch.no_grad()
    def read(self, pixels, batch, most=60):
        """Greedy texts of `batch` pictures of equally many tiles: pixels (batch * tiles, 3, side, side)."""
        x = self.prompt(self.see(pixels).reshape(batch, -1, self.decoder.embed_tokens.embedding_dim), AFTER)
        caches = [{} for _ in self.decoder.layers]
        past = 0
        ids = []
        done = torch.zeros(batch, dtype=torch.bool)
        while len(ids) < most and not done.all():
            last = self.decoder(x, past, caches)[:, -1]
            past += x.shape[1]
            ids.append(self.logits(last).argmax(-1))
            done |= ids[-1] == END
            x = self.decoder.embed_tokens(ids[-1])[:, None]
        texts = []
        for row in torch.stack(ids, 1).tolist():
            row = row[: row.index(END)] if END in row else row
            texts.append(''.join(CHARACTERS[i] if i < len(CHARACTERS) else '\N{INVERTED QUESTION MARK}' for i in row))
        return texts
