"""The parameter shapes of two networks that everybody knows, in the order in which their frameworks list them."""

# ResNet-50 (He et al. 2016, torchvision's layout): 161 tensors, 25,557,032 parameters.
# (blocks, channels in, channels inside): a block's last convolution has four times the channels inside.
RESNET50_STAGES = ((3, 64, 64), (4, 256, 128), (6, 512, 256), (3, 1024, 512))


def _bottleneck(into: int, inside: int, first: bool) -> list[tuple[int, ...]]:
    out = 4*inside
    convolutions = [(inside, into, 1, 1), (inside, inside, 3, 3), (out, inside, 1, 1)] + [(out, into, 1, 1)]*first
    return [shape for c in convolutions for shape in (c, c[:1], c[:1])]  # each with its batch norm: weight, bias


RESNET50 = [(64, 3, 7, 7), (64,), (64,),
            *(shape for blocks, into, inside in RESNET50_STAGES for k in range(blocks)
              for shape in _bottleneck(into if k == 0 else 4*inside, inside, k == 0)), (1000, 2048), (1000,)]

# GPT-2 small (Radford et al. 2019; the output layer is the token embedding): 148 tensors, 124,439,808 parameters.
GPT2_BLOCK = [
    (768,), (768,),                                # norm before the attention
    (768, 2304), (2304,), (768, 768), (768,),      # attention: queries, keys and values in one; projection
    (768,), (768,),                                # norm before the perceptron
    (768, 3072), (3072,), (3072, 768), (768,)]     # perceptron
GPT2 = [(50257, 768), (1024, 768), *GPT2_BLOCK*12, (768,), (768,)]

SMALL = [(1000,)]*200
TINY = [(100,)]*1000
THOUSAND = [(1000,)]*1000
