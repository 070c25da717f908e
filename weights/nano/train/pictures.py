"""Text pictures for training and testing: strings, rendering, tiling, dense character labels.

Everything is rendered from freely licensed fonts; nothing is read from photographs.
setup(fonts, words) must be called once: it finds the font files and the word list.
"""

import glob, io, math, os, random, re
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

CHARACTERS = [chr(c) for c in range(32, 127)] + ['\n']  # 96 characters; the id is the position
CHARACTER_IDS = {c: i for i, c in enumerate(CHARACTERS)}  # 0 = space, also "background" in the dense labels

# -- fonts (paths as the Debian packages install them; see README for the package list) -------------
SEEN_G = [
    'truetype/dejavu/DejaVuSans.ttf',
    'truetype/dejavu/DejaVuSans-Bold.ttf',
    'truetype/dejavu/DejaVuSansMono.ttf',
    'truetype/dejavu/DejaVuSerif.ttf',
    'truetype/dejavu/DejaVuSerif-Bold.ttf',
    'truetype/dejavu/DejaVuSansCondensed*.ttf',
    'truetype/liberation/LiberationSans-*.ttf',
    'truetype/liberation/LiberationSerif-*.ttf',
    'truetype/liberation/LiberationMono-*.ttf',
    'truetype/liberation/LiberationSansNarrow-Regular.ttf',
    'truetype/lato/Lato-Regular.ttf',
    'truetype/lato/Lato-Bold.ttf',
    'truetype/lato/Lato-Italic.ttf',
    'truetype/noto/NotoSans-Regular.ttf',
    'truetype/noto/NotoSans-Bold.ttf',
    'truetype/noto/NotoSans-Italic.ttf',
    'truetype/noto/NotoSerif-Regular.ttf',
    'truetype/noto/NotoSerif-Bold.ttf',
    'truetype/noto/NotoMono-Regular.ttf',
    'truetype/noto/NotoSansMono-Regular.ttf',
    'truetype/crosextra/Carlito-*.ttf',
    'truetype/crosextra/Caladea-*.ttf',
    'truetype/open-sans/OpenSans-Regular.ttf',
    'truetype/open-sans/OpenSans-Bold.ttf',
    'truetype/open-sans/OpenSans-Italic.ttf',
    'truetype/freefont/FreeSans.ttf',
    'truetype/freefont/FreeSerif.ttf',
    'truetype/freefont/FreeMono.ttf',
    'truetype/freefont/FreeSansBold.ttf',
    'truetype/freefont/FreeSerifItalic.ttf',
    'opentype/ebgaramond/EBGaramond12-Regular.otf',
    'opentype/cabin/Cabin-Regular.otf',
    'opentype/cabin/Cabin-Bold.otf',
    'opentype/cantarell/*.otf',
    'truetype/inconsolata/*.otf',
    'truetype/inconsolata/*.ttf',
    'opentype/linux-libertine/LinLibertine_R.otf',
    'opentype/linux-libertine/LinBiolinum_R.otf',
    'truetype/firacode/FiraCode-Regular.ttf',
    'opentype/urw-base35/NimbusSans-Regular.otf',
    'opentype/urw-base35/URWGothic-Book.otf',
    'opentype/urw-base35/P052-Roman.otf',
]
EXTRA_G = [
    'truetype/lato/Lato-Light.ttf',
    'truetype/lato/Lato-Black.ttf',
    'opentype/courier-prime/Courier Prime.otf',
    'opentype/courier-prime/Courier Prime Bold.otf',
    'opentype/courier-prime/Courier Prime Sans.otf',
    'truetype/ocr-a/OCRA.ttf',
    'truetype/jetbrains-mono/JetBrainsMono-Regular.ttf',
    'truetype/jetbrains-mono/JetBrainsMono-Light.ttf',
    'truetype/jetbrains-mono/JetBrainsMono-Bold.ttf',
    'truetype/anonymous-pro/Anonymous Pro.ttf',
    'truetype/gentium/Gentium-R.ttf',
    'truetype/mononoki/mononoki-Regular.ttf',
    'truetype/play/Play-Regular.ttf',
    'truetype/play/Play-Bold.ttf',
    'opentype/jura/Jura-Light.otf',
    'opentype/jura/Jura-Medium.otf',
    'truetype/charis/CharisSIL-Regular.ttf',
    'truetype/dejavu/DejaVuSansMono-Bold.ttf',
    'truetype/freefont/FreeMonoBold.ttf',
    'opentype/urw-base35/NimbusMonoPS-Regular.otf',
    'opentype/urw-base35/NimbusSansNarrow-Regular.otf',
    'opentype/urw-base35/NimbusRoman-Regular.otf',
]
UNSEEN_G = [
    'truetype/hack/Hack-Regular.ttf',
    'truetype/roboto/unhinted/RobotoTTF/Roboto-Regular.ttf',
    'truetype/roboto/unhinted/RobotoTTF/Roboto-Medium.ttf',
    'opentype/urw-base35/C059-Roman.otf',
    'opentype/urw-base35/URWBookman-Light.otf',
]
ODD_G = ['opentype/comic-neue/ComicNeue-Regular.otf', 'truetype/quicksand/Quicksand-Regular.ttf']
DOT_N = (
    'DejaVuSansMono.ttf',
    'LiberationMono-Regular.ttf',
    'NotoMono-Regular.ttf',
    'LiberationSans-Regular.ttf',
    'DejaVuSans.ttf',
    'LiberationMono-Bold.ttf',
)
SEEN, TRAIN, UNSEEN, ODD, DOT = [], [], [], [], []
TRAINW, TESTW, COMMON = [], [], []
_COMMON = "the of and to in a is that for it as was with be by on not he his but at are this have from or had an they which one you were all her she there would their we him been has when who will no more if out so up said what its about than into them can only other time new some could these two may first then do any my now such like our over man me even most made after also did many off must well back year still old small long way great day good take get here see know".split()


def held_out(w):
    """5 % of the words, by a hash of the spelling, are kept for the tests."""
    return sum(ord(c) * (i * 7 + 31) for i, c in enumerate(w.lower().replace("'s", ''))) % 20 == 3


def setup(fonts='/usr/share/fonts', words='/usr/share/dict/words'):
    def find(gs):
        return [f for p in gs for f in sorted(glob.glob(os.path.join(fonts, p)))]

    SEEN[:], UNSEEN[:], ODD[:] = find(SEEN_G), find(UNSEEN_G), find(ODD_G)
    TRAIN[:] = SEEN + find(EXTRA_G)
    DOT[:] = [f for f in TRAIN if f.endswith(DOT_N)]
    w = [x.strip() for x in open(words) if x.strip().isascii()]
    w = [x for x in w if x]
    TRAINW[:] = [x for x in w if not held_out(x)]
    TESTW[:] = [x for x in w if held_out(x)]
    COMMON[:] = [x for x in _COMMON if not held_out(x)]
    if not (SEEN and UNSEEN and ODD and TRAINW and TESTW):
        raise SystemExit('pictures: no fonts or no words found; fonts.txt names the packages that hold them')


_f = {}


def font(p, s):
    if (p, s) not in _f:
        _f[p, s] = ImageFont.truetype(p, s, layout_engine=ImageFont.Layout.BASIC)
    return _f[p, s]


# -- strings -----------------------------------------------------------------------------------------
def word(r, test=False):
    if not test and r.random() < 0.25:
        w = r.choice(COMMON)
    else:
        w = r.choice(TESTW if test else TRAINW)
    x = r.random()
    return w if x < 0.65 else (w.capitalize() if x < 0.85 else w.upper())


def digits(r, lo=1, hi=10):
    x = r.random()
    n = r.randint(lo, hi)
    if x < 0.5 or hi < 5:
        return ''.join(r.choice('0123456789') for _ in range(n))
    if x < 0.6:
        return '%d.%02d' % (r.randint(0, 9999), r.randint(0, 99))
    if x < 0.67:
        return '$%d.%02d' % (r.randint(0, 999), r.randint(0, 99))
    if x < 0.75:
        return '%02d/%02d/%04d' % (r.randint(1, 12), r.randint(1, 31), r.randint(1900, 2099))
    if x < 0.82:
        return '%04d-%02d-%02d' % (r.randint(1900, 2099), r.randint(1, 12), r.randint(1, 31))
    if x < 0.87:
        return '%d:%02d' % (r.randint(0, 23), r.randint(0, 59))
    if x < 0.91:
        return '%d%%' % r.randint(0, 100)
    if x < 0.95:
        return '%d,%03d' % (r.randint(1, 999), r.randint(0, 999))
    return '+%d %03d %04d' % (r.randint(1, 99), r.randint(0, 999), r.randint(0, 9999))


LOW, UP, DIG = 'abcdefghijklmnopqrstuvwxyz', 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', '0123456789'
PUN = '.,:;!?-\'"()/&%$#@+=*_[]{}<>|\\~^`'


def rnd(r, n):
    x = r.random()
    al = LOW if x < 0.25 else UP if x < 0.35 else UP + DIG if x < 0.5 else LOW + UP + DIG if x < 0.78 else LOW + UP + DIG + PUN
    s = ''.join(r.choice(al) for _ in range(n))
    i = 0
    while n > 7 and r.random() < 0.6 and i < 3:
        k = r.randint(2, n - 3)
        i += 1
        if s[k - 1] != ' ' and s[k + 1] != ' ':
            s = s[:k] + ' ' + s[k + 1 :]
    return s


def line(r, maxlen, test=False, minlen=1):
    n = r.randint(max(minlen, min(6, maxlen)), maxlen)
    s = ''
    while True:
        w = digits(r, 1, 6) if r.random() < 0.12 else word(r, test)
        x = r.random()
        if x < 0.08:
            w += ','
        elif x < 0.13:
            w += '.'
        elif x < 0.15:
            w += ':'
        elif x < 0.16:
            w = '(' + w + ')'
        elif x < 0.17:
            w = '"' + w + '"'
        elif x < 0.18:
            w += '!'
        elif x < 0.19:
            w += '?'
        elif x < 0.20:
            w = w + '-' + word(r, test)
        t = (s + ' ' + w) if s else w
        if len(t) > n:
            break
        s = t
    if not s:
        s = word(r, test)[:maxlen]
    return s


LABEL = 'TOTAL|SUBTOTAL|SUB TOTAL|GRAND TOTAL|TOTAL DUE|TAX|SALES TAX|VAT 20%|VAT|CASH|CHANGE|BALANCE|BALANCE DUE|AMOUNT|AMOUNT DUE|DISCOUNT|SERVICE CHARGE|ROUNDING|NET|GROSS|TIP|DEPOSIT|CREDIT|DEBIT|VISA|MASTERCARD|CARD|REFUND|SHIPPING|PAYMENT|TENDERED|PRICE|FEE|NET TOTAL|TOTAL INCL. TAX|TOTAL SALES|POINTS'.split(
    '|'
)
IDS = 'INVOICE NO|INVOICE|INV|RECEIPT NO|RECEIPT|ORDER|ORDER NO|REF|TABLE|CASHIER|TERMINAL|BILL NO|BILL|ACCOUNT|CUSTOMER|TRANS|BATCH|AUTH|STORE|SHOP|COUNTER|SALES|TAX ID|REG NO|CO. NO|DOCUMENT NO|ID|NO|GUEST|MEMBER|ROOM|STAFF|POS|PO BOX|UNIT|LOT|PAGE'.split(
    '|'
)
SAY = 'THANK YOU|THANK YOU!|PLEASE COME AGAIN|CUSTOMER COPY|THANK YOU FOR SHOPPING|CASH BILL|TAX INVOICE|RECEIPT|INVOICE|WELCOME|HAVE A NICE DAY|MERCHANT COPY|DUPLICATE|ORIGINAL|NO REFUND|NO SIGNATURE REQUIRED|APPROVED|DESCRIPTION|ITEM|QTY|AMOUNT|PRICE|TOTAL ITEMS|OPEN 24 HOURS|GOODS SOLD ARE NOT RETURNABLE|KEEP THIS RECEIPT|PLEASE PAY|VAT INCLUDED|SEE YOU SOON|DELIVERY NOTE|QUANTITY|UNIT PRICE|DINE IN|TAKE AWAY'.split(
    '|'
)
PLACE = 'STREET|ROAD|AVENUE|LANE|DRIVE|PARK|SQUARE|PLAZA|CENTRE|MARKET|HIGHWAY|BLVD|ST.|RD.|AVE'.split('|')
FIRM = 'LTD|LTD.|INC.|LLC|CO.|& CO|GMBH|PLC|GROUP|TRADING|STORES|CAFE|RESTAURANT|SUPERMARKET|HARDWARE|PHARMACY|BOOKS|HOTEL|BAKERY|SHOP'.split(
    '|'
)
MON = 'JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC'.split('|')


def money(r):
    x = r.random()
    v = r.choice([r.randint(0, 9), r.randint(0, 99), r.randint(0, 999), r.randint(0, 9999)])
    c = r.choice([0, 0, 50, 90, 99, r.randint(0, 99), r.randint(0, 99), r.randint(0, 99)])
    s = '%s.%02d' % (format(v, ',') if x < 0.8 else v, c)
    y = r.random()
    if y < 0.55:
        return s
    if y < 0.75:
        return '$' + s
    if y < 0.80:
        return '$ ' + s
    if y < 0.87:
        return r.choice(['USD', 'EUR', 'GBP', 'CHF', 'AUD', 'CAD', 'SGD']) + ' ' + s
    if y < 0.91:
        return s.replace(',', ' ').replace('.', ',')
    if y < 0.95:
        return '-' + s
    return s + r.choice([' A', ' B', '-', ' T', '%', ' *'])


def dstr(r, n):
    return ''.join(r.choice(DIG) for _ in range(n))


def date(r):
    d, m, y = r.randint(1, 31), r.randint(1, 12), r.randint(1990, 2035)
    x = r.random()
    if x < 0.3:
        return '%02d%s%02d%s%04d' % (d, s := r.choice('//-.'), m, s, y)
    if x < 0.5:
        return '%04d-%02d-%02d' % (y, m, d)
    if x < 0.65:
        return '%02d/%02d/%02d' % (d, m, y % 100)
    mo = r.choice([MON[m - 1], MON[m - 1].capitalize()])
    return (
        '%02d%s%s%s%s' % (d, s := r.choice(' -/ '), mo, s, r.choice(['%04d' % y, '%02d' % (y % 100)]))
        if x < 0.85
        else '%s %d, %d' % (mo, d, y)
    )


def clock(r):
    h, m, s = r.randint(0, 23), r.randint(0, 59), r.randint(0, 59)
    x = r.random()
    return (
        '%02d:%02d' % (h, m)
        if x < 0.4
        else (
            '%02d:%02d:%02d' % (h, m, s)
            if x < 0.7
            else (
                '%d:%02d%s' % (h % 12 + 1, m, r.choice([' AM', ' PM', 'AM', 'PM', 'am', 'pm']))
                if x < 0.9
                else '%02d:%02d:%02d %s' % (h % 12 + 1, m, s, r.choice(['AM', 'PM']))
            )
        )
    )


def phone(r):
    return r.choice(
        [
            lambda: '%s-%s-%s' % (dstr(r, 3), dstr(r, 3), dstr(r, 4)),
            lambda: '(%s) %s-%s' % (dstr(r, 3), dstr(r, 3), dstr(r, 4)),
            lambda: '0%s-%s %s' % (dstr(r, 1), dstr(r, 4), dstr(r, 4)),
            lambda: '+%d %s %s' % (r.randint(1, 99), dstr(r, 2), dstr(r, 7)),
            lambda: '0%s %s' % (dstr(r, 3), dstr(r, 6)),
            lambda: '0%s-%s' % (dstr(r, 2), dstr(r, 7)),
        ]
    )()


def receipt(r, test=False):
    """A line as on a receipt or an invoice; runs of spaces are drawn wide, the target has one space."""

    def w():
        return r.choice(TESTW if test else TRAINW).replace("'s", '').upper()

    x = r.random()
    if x < 0.30:
        sep = r.choice([' ', ' ', ': ', ' : ', ' ' * r.randint(2, 8), ' ' * r.randint(2, 8), ':' + ' ' * r.randint(2, 6), ' - '])
        s = r.choice(LABEL) + sep + money(r)
    elif x < 0.42:
        lab = r.choice(['', '', 'DATE: ', 'DATE ', 'DATE : ', 'PRINTED ', 'DUE ', 'VALID TO '])
        s = lab + date(r) + (r.choice([' ', '   ']) + clock(r) if r.random() < 0.35 else '')
        if r.random() < 0.12:
            s = r.choice(['TIME: ', 'TIME ', 'TIME : ']) + clock(r)
    elif x < 0.50:
        s = r.choice(['TEL: ', 'TEL ', 'TEL : ', 'FAX: ', 'FAX ', 'PHONE: ', 'CALL ', 'TEL/FAX: ', '']) + phone(r)
    elif x < 0.65:
        v = r.choice(
            [
                lambda: dstr(r, r.randint(1, 12)),
                lambda: r.choice(UP) + dstr(r, r.randint(2, 8)),
                lambda: r.choice(UP) + r.choice(UP) + '-' + dstr(r, r.randint(2, 6)),
                lambda: dstr(r, r.randint(2, 5)) + '/' + dstr(r, r.randint(1, 4)),
                lambda: w(),
            ]
        )()
        s = r.choice(IDS) + r.choice([': ', ' : ', ' ', '. ', ' #', ': #', '.: ', ':' + ' ' * r.randint(2, 5)]) + v
    elif x < 0.80:
        n = r.choice([w(), w(), w() + ' ' + w()])[:16]
        s = r.choice(
            [
                lambda: '%d X %s %s' % (r.randint(1, 12), n, money(r)),
                lambda: '%s%s%s' % (n, ' ' * r.randint(1, 8), money(r)),
                lambda: '%d @ %s' % (r.randint(1, 20), money(r)),
                lambda: '%d x %d.%02d = %d.%02d'
                % (r.randint(1, 20), r.randint(0, 30), r.randint(0, 99), r.randint(0, 300), r.randint(0, 99)),
                lambda: '%s %s' % (dstr(r, r.randint(4, 10)), n),
                lambda: '%s %d%s' % (n, r.randint(1, 750), r.choice(['G', 'ML', 'KG', 'L', 'PCS', 'CM'])),
                lambda: '%d %s %s' % (r.randint(1, 9), n, money(r)),
                lambda: '(%s)' % n,
                lambda: '*%s' % n,
            ]
        )()
    elif x < 0.92:
        s = r.choice(
            [
                lambda: w() + ' ' + r.choice(FIRM),
                lambda: w() + ' ' + w() + ' ' + r.choice(FIRM),
                lambda: '%d %s %s' % (r.randint(1, 400), w(), r.choice(PLACE)),
                lambda: '%d, %s %s,' % (r.randint(1, 400), w(), r.choice(PLACE)),
                lambda: dstr(r, 5) + ' ' + w(),
                lambda: w() + ', ' + w() + '.',
                lambda: 'www.%s.%s' % (w().lower(), r.choice(['com', 'org', 'net', 'de', 'co.uk'])),
                lambda: '%s@%s.%s' % (w().lower(), w().lower()[:8], r.choice(['com', 'org', 'net'])),
                lambda: 'NO. %d, %s %s' % (r.randint(1, 99), w(), r.choice(PLACE)),
                lambda: '(%s-%s)' % (dstr(r, 6), r.choice(UP)),
            ]
        )()
    else:
        s = r.choice(SAY)
    y = r.random()
    if y > 0.70:
        s = s.title() if y > 0.80 else s.capitalize() if y > 0.75 else s.lower()
    return s[:32].strip()


def text(r, maxlen=32):
    """A training string (one line)."""
    x = r.random()
    if x < 0.12:
        s = digits(r)
    elif x < 0.37:
        s = rnd(r, r.randint(1, min(maxlen, 24)))
    elif x < 0.48:
        s = word(r)
    elif x < 0.72:
        s = line(r, maxlen, False, r.choice([1, 6, 12, 18]))
        y = r.random()
        if y < 0.16:
            s = s.upper()
        elif y < 0.24:
            s = s.title()
    else:
        s = receipt(r)
    return s[:maxlen].strip() or '0'


def two_lines(r, test=False):
    def one():
        n = r.randint(3, 20)
        x = r.random()
        s = line(r, n, test) if x < 0.4 or test else receipt(r) if x < 0.7 else rnd(r, min(n, 14)) if x < 0.9 else digits(r)
        s = s if len(s) <= 20 else s[:20]
        return s.strip() or '1'

    return one() + '\n' + one()


def target(s):
    return re.sub(' +', ' ', s)


# -- tiles -------------------------------------------------------------------------------------------
_g = {}


def closest(w, h, max_tiles, side):
    """InternVL's closest aspect ratio: (columns, rows)."""
    if max_tiles not in _g:
        _g[max_tiles] = sorted(
            {
                (i, j)
                for n in range(1, max_tiles + 1)
                for i in range(1, n + 1)
                for j in range(1, n + 1)
                if 1 <= i * j <= max_tiles
            },
            key=lambda t: t[0] * t[1],
        )
    best = 1e9
    br = (1, 1)
    a = w / h
    for i, j in _g[max_tiles]:
        d = abs(a - i / j)
        if d < best:
            best = d
            br = (i, j)
        elif d == best and w * h > 0.5 * side * side * i * j:
            br = (i, j)
    return br


def tiles_of(im, i, j, side):
    """(tiles, side, side[, 3]) uint8; the thumbnail is last when there is more than one tile."""
    a = np.asarray(im.resize((i * side, j * side), Image.BICUBIC))
    e = a.shape[2:]
    a = a.reshape(j, side, i, side, *e).swapaxes(1, 2).reshape(i * j, side, side, *e)
    if i * j > 1:
        a = np.concatenate([a, np.asarray(im.resize((side, side), Image.BICUBIC))[None]])
    return a


def labels(boxes, W, H, i, j, side):
    """Token rows (28 px) x 7-px slots -> character id. boxes: (y0, y1, text, left edges of the characters + right end)."""
    sx = i * side / W
    sy = j * side / H
    lab = np.zeros((j * side // 28, i * side // 7), np.uint8)
    xs = (np.arange(lab.shape[1]) * 7 + 3.5) / sx
    for y0, y1, x, e in boxes:
        ix = np.searchsorted(e, xs, 'right') - 1
        ids = np.array([CHARACTER_IDS[c] for c in x] + [0], np.uint8)
        row = np.where((ix >= 0) & (ix < len(x)), ids[np.clip(ix, 0, len(x))], 0)
        lh = y1 - y0
        yy0 = (y0 + 0.2 * lh) * sy
        yy1 = (y0 + 0.85 * lh) * sy
        for ty in range(lab.shape[0]):
            ov = min(yy1, ty * 28 + 28) - max(yy0, ty * 28)
            if ov > 0.25 * min(28, yy1 - yy0):
                lab[ty] = np.where(row > 0, row, lab[ty])
    return lab


# -- rendering: all pictures are "ink" masks (255 = ink); colours are put on in colours.py ---------
def edges(f, x):
    return [f.getlength(x[:n]) for n in range(len(x) + 1)]


def render_clean(r, s, fonts, side, max_tiles):
    """Test pictures: no noise, blur or colour; random font, size and margins."""
    lines = s.split('\n')
    fs = r.choice([20, 24, 28, 32, 40, 48])
    f = font(r.choice(fonts), fs)
    asc, desc = f.getmetrics()
    lh = asc + desc
    gap = 0 if len(lines) == 1 else int(r.uniform(0, 0.5) * fs)
    t, b = (int(r.uniform(-0.08, 0.4) * fs) for _ in range(2))
    l, rr = (int(r.uniform(0.02, 0.7) * fs) for _ in range(2))
    W = max(8, int(max(f.getlength(x) for x in lines) + l + rr))
    H = max(8, int(lh * len(lines) + gap * (len(lines) - 1) + t + b))
    im = Image.new('L', (W, H), 0)
    d = ImageDraw.Draw(im)
    y = t
    boxes = []
    for x in lines:
        d.text((l, y), x, fill=255, font=f)
        boxes.append((y, y + lh, x, [l + v for v in edges(f, x)]))
        y += lh + gap
    i, j = closest(W, H, max_tiles, side)
    return (i, j), tiles_of(im, i, j, side), labels(boxes, W, H, i, j, side), im


def lowfreq(r, W, H, n=6):
    a = np.frombuffer(r.randbytes(max(2, n) * 3), np.uint8).reshape(3, -1)
    return np.asarray(Image.fromarray(a).resize((W, H), Image.BICUBIC), np.float32) / 255


def render(r, s, fonts, side, max_tiles):
    """Training pictures: weight, spacing, dot matrix, fading, blur, low resolution, JPEG, shading, rules, neighbours."""
    lines = s.split('\n')
    dot = r.random() < 0.05
    track = 0.0
    k = 1
    if dot:
        fs = r.choice([9, 10, 11, 12, 13])
        f = font(r.choice(DOT or fonts), fs)
        k = r.choice([2, 3, 3, 4])
    else:
        fs = r.choice([14, 16, 18, 20, 24, 24, 28, 28, 32, 32, 40, 48])
        f = font(r.choice(fonts), fs)
    if not dot and r.random() < 0.10:
        track = r.uniform(-0.03, 0.25) * fs
    asc, desc = f.getmetrics()
    lh = asc + desc
    gap = 0 if len(lines) == 1 else int(r.uniform(0, 0.5) * fs)
    wide = r.random() < 0.15
    hi = 0.9 if wide else 0.4
    t, b = (int(r.uniform(-0.08, hi) * fs) for _ in range(2))
    l, rr = (int(r.uniform(0.02, 2.0 if wide else 0.7) * fs) for _ in range(2))
    es = [edges(f, x) for x in lines]
    if track:
        es = [[v + n * track for n, v in enumerate(e)] for e in es]
    ws = [e[-1] for e in es]
    W = max(8, int(max(ws) + l + rr))
    H = max(8, int(lh * len(lines) + gap * (len(lines) - 1) + t + b))
    al = r.choice([0, 0, 0, 0.5, 1])
    im = Image.new('1' if dot else 'L', (W, H), 0)
    d = ImageDraw.Draw(im)
    y = t
    boxes = []
    one = 1 if dot else 255
    for x, e, w in zip(lines, es, ws):
        x0 = l + int(al * (max(ws) - w))
        if track:
            for c, v in zip(x, e):
                d.text((x0 + v, y), c, fill=one, font=f)
        else:
            d.text((x0, y), x, fill=one, font=f)
        boxes.append((y, y + lh, x, [x0 + v for v in e]))
        y += lh + gap
    if not dot and r.random() < 0.07:  # slivers of the neighbouring lines
        o = r.uniform(0.72, 0.85) * lh
        x = ''.join(r.choice(LOW + UP) for _ in range(int(W / fs * 2)))
        d.text((l, boxes[0][0] - o if r.random() < 0.5 else boxes[-1][0] + o + 0.15 * lh), x, fill=255, font=f)
    if r.random() < 0.04:  # a rule above or below
        yy = int(r.choice([boxes[0][0] + 0.08 * lh, boxes[-1][1] - 0.02 * lh]))
        d.line((0, yy, W, yy + r.choice([0, 0, 1])), fill=one, width=max(1, fs // 16))
    if r.random() < 0.35 and im.getbbox():  # cropped to the ink, as people cut a line out
        x0, y0, x1, y1 = im.getbbox()
        m = lambda: int(r.uniform(0, 0.14) * fs)
        x0, y0, x1, y1 = max(0, x0 - m()), max(0, y0 - m()), min(W, x1 + m()), min(H, y1 + m())
        if x1 - x0 >= 6 and y1 - y0 >= 6:
            im = im.crop((x0, y0, x1, y1))
            W, H = im.size
            boxes = [(p - y0, q - y0, x, [v - x0 for v in e]) for p, q, x, e in boxes]
    if dot:
        a = np.asarray(im, np.uint8)
        q = np.hypot(*np.meshgrid(*[np.arange(k) - (k - 1) / 2] * 2))
        m = np.clip(r.uniform(0.45, 0.75) * k + 0.5 - q, 0.1, 1) * 255
        im = Image.fromarray(np.kron(a, m.astype(np.uint8)))
        fs *= k
    elif r.random() < 0.14 and fs >= 24:  # thinner or fatter strokes
        im2 = im.filter(ImageFilter.MinFilter(3) if fs >= 40 and r.random() < 0.5 else ImageFilter.MaxFilter(3))
        im = Image.blend(im, im2, r.uniform(0.4, 1))
    W0, H0 = im.size
    if r.random() < 0.25:
        im = im.rotate(r.gauss(0, 0.6 if W0 > 6 * H0 else 1.5), Image.BILINEAR, expand=False)
    if r.random() < 0.15:
        im = im.transform((W0, H0), Image.AFFINE, (1, r.uniform(-0.15, 0.15), 0, 0, 1, 0), Image.BILINEAR)
    if r.random() < 0.12:  # faded print
        z = lowfreq(r, W0, H0, r.randint(2, 14))
        im = Image.fromarray((np.asarray(im) * (1 - r.uniform(0.2, 0.65) * z)).astype(np.uint8))
        if r.random() < 0.3:
            a = np.array(im)
            a[r.randint(0, 3) :: r.randint(4, 9)] //= 2
            im = Image.fromarray(a)
    if r.random() < (0.6 if dot else 0.28):
        im = im.filter(ImageFilter.GaussianBlur(r.uniform(0.3, max(0.5, fs / 24))))
    if r.random() < 0.2:
        q = r.uniform(max(0.3, 11 / fs), 0.85) if fs > 14 else 1.0
        im = im.resize((max(4, int(W0 * q)), max(4, int(H0 * q))), r.choice([Image.BILINEAR, Image.BICUBIC]))
    if r.random() < 0.15:
        im = im.resize((max(4, int(im.size[0] * r.uniform(0.8, 1.25))), im.size[1]))
    if r.random() < 0.10:  # shaded paper
        z = lowfreq(r, *im.size, r.randint(2, 6)) * r.uniform(0.1, 0.35)
        a = np.asarray(im, np.float32)
        im = Image.fromarray((a + (255 - a) * z).astype(np.uint8))
    if r.random() < 0.16:
        bio = io.BytesIO()
        Image.eval(im, lambda v: 255 - v).save(bio, 'JPEG', quality=r.randint(12, 60))
        im = Image.eval(Image.open(bio), lambda v: 255 - v)
    i, j = closest(im.size[0], im.size[1], max_tiles, side)
    return (i, j), tiles_of(im, i, j, side), labels(boxes, W, H, i, j, side)


def sample(r, side, max_tiles, two=0.12, maxlen=32):
    s = two_lines(r) if r.random() < two else text(r, maxlen)
    return (target(s),) + render(r, s, TRAIN, side, max_tiles)


# -- test sets: each a list of (text, grid, tiles) ------------------------------------------------------
def tests(side, max_tiles, n=200):
    """Words are held out; pictures are clean but for the last set."""

    def samples(seed, fonts, text, draw=render_clean):
        r = random.Random(seed)
        return [(target(s),) + draw(r, s, fonts, side, max_tiles)[:2] for s in (text(r) for _ in range(n))]

    kinds = {'digits': lambda r: digits(r, 3, 10), 'words': lambda r: word(r, True), 'lines': lambda r: line(r, 32, True, 12)}
    out = {}
    for fi, (fn, fonts) in enumerate((('seen', SEEN), ('unseen', UNSEEN), ('odd', ODD))):
        for ki, (kind, text) in enumerate(kinds.items()):
            out[f'{fn}/{kind}'] = samples((fi + 1) * 10 + ki + 1 + 990000, fonts, text)
    out['seen/two lines'] = samples(77, SEEN, lambda r: '\n'.join(line(r, r.randint(4, 18), True) for _ in range(2)))
    out['unseen/receipt lines'] = samples(78, UNSEEN, lambda r: receipt(r, True))
    out['unseen/degraded'] = samples(79, UNSEEN, lambda r: receipt(r, True) if r.random() < 0.4 else line(r, 24, True), render)
    return out


def watched(side, max_tiles, n=40):
    """Watched during training; not the test sets."""
    kinds = {
        'words': (SEEN, lambda r: word(r, True)),
        'lines': (SEEN, lambda r: line(r, 32, True, 12)),
        'receipt': (UNSEEN, lambda r: receipt(r, True)),
        'two': (SEEN, lambda r: two_lines(r, True)),
    }
    out = {}
    for name, (fonts, text) in kinds.items():
        r = random.Random(len(name) + 4242)
        out[name] = [(target(s),) + render_clean(r, s, fonts, side, max_tiles)[:2] for s in (text(r) for _ in range(n))]
    return out
