#!/usr/bin/env python3
"""Makes the pictures in made/ and records what Pillow makes of them. Needs Pillow 13.0.0; nothing that is built or tested runs this.

    record.py ORACLE    ORACLE: a pillow_decode_oracle.json that has the entries of the other folders
"""
import hashlib, io, json, os, struct, sys
from PIL import Image, ImageOps

here = os.path.dirname(os.path.abspath(__file__))
made = os.path.join(here, "made")


def sha(image):
    return hashlib.sha256(image.tobytes()).hexdigest()


def picture(mode, width, height, step=0):
    """A pattern with edges, ramps and every kind of alpha."""
    out = Image.new("RGBA", (width, height))
    out.putdata([((x * 7 + step * 40) % 256, (y * 5 + x * y) % 256, 255 if (x // 4 + y // 4) % 2 else 30,
                  (255, 255, 0, (x * 11) % 256)[(x // 5 + y // 3 + step) % 4]) for y in range(height) for x in range(width)])
    return out.convert(mode) if mode != "P" else out.convert("RGB").quantize(61)


def save(name, image, **options):
    image.save(os.path.join(made, name), **options)


def patch(name, of, edit):
    data = bytearray(open(os.path.join(made, of), "rb").read())
    edit(data)
    open(os.path.join(made, name), "wb").write(data)


def ycck(data):
    at = data.index(b"Adobe")
    data[at + 11] = 2


def old_jpeg(name, image):
    """TIFF 6's JPEG: the directory behind one whole JPEG file."""
    held = io.BytesIO()
    image.save(held, format="JPEG", quality=90, subsampling=2)
    data = held.getvalue()
    data += bytes(len(data) % 2)
    shorts, longs = 3, 4
    extra = 8 + len(data)
    fields = [(256, longs, 1, image.width), (257, longs, 1, image.height), (258, shorts, 3, extra), (259, shorts, 1, 6), (262, shorts, 1, 6),
              (273, longs, 1, 8), (277, shorts, 1, 3), (278, longs, 1, image.height), (279, longs, 1, len(data)), (512, shorts, 1, 1),
              (513, longs, 1, 8), (514, longs, 1, len(data)), (530, shorts, 2, 2 | 2 << 16)]
    directory = struct.pack("<H", len(fields)) + b"".join(struct.pack("<HHII", *f) for f in fields) + bytes(4)
    with open(os.path.join(made, name), "wb") as out:
        out.write(struct.pack("<2sHI", b"II", 42, extra + 6) + data + struct.pack("<3H", 8, 8, 8) + directory)


def make():
    os.makedirs(made, exist_ok=True)
    for quality in (30, 95):
        for sampling in (0, 1, 2):
            save(f"jpeg-{quality}-{sampling}.jpg", picture("RGB", 61, 43), quality=quality, subsampling=sampling, progressive=sampling == 1)
    save("restarts.jpg", picture("RGB", 61, 43), quality=90, subsampling=2, restart_marker_blocks=3)
    save("grey.jpg", picture("L", 33, 50))
    save("cmyk.jpg", picture("RGB", 40, 31).convert("CMYK"), quality=90)
    patch("ycck.jpg", "cmyk.jpg", ycck)
    for mode in ("RGB", "RGBA"):
        save(f"lossy-{mode.lower()}.webp", picture(mode, 61, 43), quality=70)
        save(f"lossless-{mode.lower()}.webp", picture(mode, 61, 43), lossless=True, exact=True)
    frames = [picture("RGB", 37, 29, i) for i in range(4)]
    see_through = [picture("RGBA", 37, 29, i) for i in range(4)]
    save("animated.webp", frames[0], save_all=True, append_images=frames[1:], lossless=True, duration=50)
    save("animated.png", see_through[0], save_all=True, append_images=see_through[1:], duration=50, blend=0, disposal=1)
    save("animated.gif", frames[0], save_all=True, append_images=frames[1:], duration=50)
    save("still.gif", picture("P", 61, 43), interlace=1)
    grey = picture("L", 61, 43)
    save("grey.gif", grey, interlace=0)
    save("see-through.gif", picture("P", 61, 43), transparency=3)
    for mode in ("1", "L", "P", "RGB"):
        save(f"{mode.lower()}.bmp", picture(mode, 61, 43))
    save("rgba.bmp", picture("RGBA", 61, 43))
    for mode, compressions in {"1": ("raw", "group3", "group4", "tiff_ccitt", "packbits"), "L": ("tiff_lzw",), "LA": ("raw",), "P": ("raw",),
                               "RGB": ("tiff_lzw", "tiff_adobe_deflate", "jpeg"), "RGBA": ("packbits",), "CMYK": ("tiff_lzw", "jpeg")}.items():
        for compression in compressions:
            image = picture("RGB", 93, 47).convert("CMYK") if mode == "CMYK" else picture(mode, 93, 47)
            save(f"{mode.lower()}-{compression}.tif", image, compression=None if compression == "raw" else compression)
    old_jpeg("old-jpeg.tif", picture("RGB", 61, 43))
    save("big.tif", picture("RGB", 30, 20), big_tiff=True)
    save("pages.tif", frames[0], save_all=True, append_images=frames[1:])
    save("grey-alpha.png", picture("LA", 61, 43))
    save("rgb-key.png", picture("RGB", 61, 43), transparency=(0, 0, 30))
    save("grey-key.png", picture("1", 61, 43), transparency=0)
    save("palette-alpha.png", picture("P", 61, 43), transparency=bytes(range(0, 244, 4)))


def entry(name, frame=0):
    path = os.path.join(here, name)
    image = Image.open(path)
    image.seek(frame)
    out = {"file": name, "format": image.format, "mode": image.mode, "size": list(image.size), "frames": getattr(image, "n_frames", 1)}
    if frame:
        out["frame"] = frame
    rgb = image.convert("RGB")
    out["rgb_sha256"] = sha(rgb)
    out["bicubic448_sha256"] = sha(rgb.resize((448, 448), Image.BICUBIC))
    out["bilinear97x61_sha256"] = sha(rgb.resize((97, 61), Image.BILINEAR))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(layer, mask=layer.getchannel("A"))
        out["white_sha256"] = sha(white)
    return out


def main():
    make()
    entries = [e for e in json.load(open(sys.argv[1]))["files"]
               if os.path.exists(os.path.join(here, e["file"])) and not e["file"].startswith("made/")]
    for name in sorted(os.listdir(made)):
        frames = getattr(Image.open(os.path.join(made, name)), "n_frames", 1)
        entries += [entry("made/" + name, frame) for frame in range(frames)]
    source = 'Pillow 13.0.0: convert("RGB"), Image.BICUBIC 448x448; see PROVENANCE.md'
    with open(os.path.join(here, "pillow_decode_oracle.json"), "w") as out:
        out.write(json.dumps({"source": source, "files": []})[:-2] + "\n" + ",\n".join(json.dumps(e) for e in entries) + "\n]}\n")


main()
