"""Kinds of goods that generated shops sell; what ``valid_unseen`` sells, no other split does."""

from __future__ import annotations

from dataclasses import dataclass

COLORS = tuple(
    [
        "black",
        "white",
        "navy",
        "blue",
        "red",
        "green",
        "pink",
        "grey",
        "brown",
        "purple",
        "yellow",
        "beige",
        "silver",
        "gold",
        "teal",
        "burgundy",
        "ivory",
        "khaki",
    ]
)
FINISHES = ("espresso", "walnut", "white oak", "matte black", "brushed nickel", "natural wood", "dark grey", "cherry")
CLOTHES = ("x-small", "small", "medium", "large", "x-large", "xx-large", "3x-large")
SHOES = ("5", "6", "6.5", "7", "7.5", "8", "8.5", "9", "10", "11", "12")
LENGTHS = ("1.5 feet", "3 feet", "6 feet", "10 feet", "15 feet", "25 feet")
PACKS = ("pack of 1", "pack of 2", "pack of 3", "pack of 6", "pack of 12")
WEIGHTS = ("4 ounce", "8 ounce", "12 ounce", "1 pound", "2 pound")
BEDS = ("twin", "full", "queen", "king", "california king")
PLATES = ("40x60 inch", "50x80 inch", "60x90 inch", "84x108 inch")
FLAVORS = ("original", "sea salt", "honey", "dark chocolate", "vanilla", "spicy chili", "maple", "lemon")
SCENTS = ("unscented", "lavender", "eucalyptus", "rose", "coconut", "tea tree")
STORAGE = ("64 gb", "128 gb", "256 gb", "512 gb", "1 tb")


@dataclass(frozen=True)
class Ware:
    """A kind of goods.

    Attributes:
        name: What it is called in titles and wishes.
        plural: The same for more than one, or for a kind.
        category: Path of categories.
        prices_usd: Lowest and highest price.
        attributes: What such goods may be like.
        options: Values by name of the option.
    """

    name: str
    plural: str
    category: str
    prices_usd: tuple[int, int]
    attributes: tuple[str, ...]
    options: tuple[tuple[str, tuple[str, ...]], ...] = ()


WEAR = ("machine wash", "hand wash", "long sleeve", "short sleeve", "polyester spandex", "relaxed fit", "slim fit")
FOOD = ("gluten free", "non gmo", "dairy free", "low sugar", "keto friendly", "sugar free", "soy free", "usda organic")
SKIN = ("cruelty free", "paraben free", "sulfate free", "fragrance free", "sensitive skin", "long lasting")
WOOD = ("easy assemble", "solid wood", "space saving", "living room", "easy clean", "fully assembled")
GEAR = ("high speed", "easy install", "gold plated", "heavy duty", "long lasting", "plug play")
COLOR, SIZE = ("color", COLORS), ("size", CLOTHES)

SEEN: tuple[Ware, ...] = (
    Ware("t-shirt", "t-shirts", "Clothing › Women › Tops › Tees", (9, 39), WEAR, (COLOR, SIZE)),
    Ware(
        "hoodie", "hoodies", "Clothing › Men › Active › Hoodies", (19, 69), (*WEAR, "drawstring closure"), (COLOR, SIZE)
    ),
    Ware(
        "jeans",
        "jeans",
        "Clothing › Men › Jeans",
        (25, 89),
        ("machine wash", "straight leg", "low rise", "button closure", "stretch fabric"),
        (COLOR, ("size", ("30w x 32l", "32w x 32l", "34w x 32l", "36w x 34l", "40w x 34l"))),
    ),
    Ware(
        "sandals",
        "sandals",
        "Clothing › Women › Shoes › Sandals",
        (15, 79),
        ("arch support", "open toe", "rubber sole", "ankle strap", "memory foam", "high heel"),
        (COLOR, ("size", SHOES)),
    ),
    Ware(
        "sneakers",
        "sneakers",
        "Clothing › Men › Shoes › Sneakers",
        (29, 119),
        ("rubber sole", "leather sole", "arch support", "lace closure", "non slip", "memory foam"),
        (COLOR, ("size", SHOES)),
    ),
    Ware("popcorn", "popcorn", "Grocery › Snacks › Popcorn", (5, 29), FOOD, (("flavor", FLAVORS), ("size", PACKS))),
    Ware("almonds", "almonds", "Grocery › Snacks › Nuts", (6, 45), FOOD, (("flavor", FLAVORS), ("size", WEIGHTS))),
    Ware("tea", "teas", "Grocery › Beverages › Tea", (5, 35), (*FOOD, "caffeine free"), (("size", PACKS),)),
    Ware("face moisturizer", "face moisturizers", "Beauty › Skin Care › Face", (8, 59), SKIN, (("scent", SCENTS),)),
    Ware(
        "shampoo",
        "shampoos",
        "Beauty › Hair Care › Shampoo",
        (7, 39),
        (*SKIN, "dry hair", "hair growth"),
        (("scent", SCENTS), ("size", ("8 fl oz", "16 fl oz", "32 fl oz"))),
    ),
    Ware(
        "toothbrush",
        "toothbrushes",
        "Beauty › Oral Care › Toothbrushes",
        (4, 49),
        ("sensitive teeth", "easy carry", "eco friendly", "bpa free", "oral hygiene"),
        (COLOR, ("size", PACKS)),
    ),
    Ware("bookcase", "bookcases", "Home › Furniture › Bookcases", (59, 299), WOOD, (("color", FINISHES),)),
    Ware("dining chair", "dining chairs", "Home › Furniture › Chairs", (49, 249), (*WOOD, "dining room"), (COLOR,)),
    Ware(
        "blanket",
        "blankets",
        "Home › Bedding › Blankets",
        (15, 99),
        ("machine wash", "super soft", "light weight"),
        (COLOR, ("size", PLATES)),
    ),
    Ware("hdmi cable", "hdmi cables", "Electronics › Cables › HDMI", (6, 49), GEAR, (COLOR, ("size", LENGTHS))),
    Ware(
        "bluetooth speaker",
        "bluetooth speakers",
        "Electronics › Audio › Speakers",
        (15, 149),
        ("water resistant", "hands free", "stereo sound", "long lasting", "easy carry"),
        (COLOR,),
    ),
    Ware(
        "phone case",
        "phone cases",
        "Electronics › Phones › Cases",
        (7, 39),
        ("wireless charging", "dust proof", "tempered glass", "non slip", "slim fit"),
        (COLOR,),
    ),
    Ware(
        "desktop tower",
        "desktop towers",
        "Electronics › Computers › Towers",
        (299, 899),
        ("quad core", "core i5", "core i7", "high performance"),
        (("storage", STORAGE),),
    ),
)

UNSEEN: tuple[Ware, ...] = (
    Ware(
        "swimsuit",
        "swimsuits",
        "Clothing › Women › Swim › Swimsuits",
        (15, 69),
        (*WEAR, "tummy control"),
        (COLOR, SIZE),
    ),
    Ware(
        "rain boots",
        "rain boots",
        "Clothing › Women › Shoes › Boots",
        (25, 99),
        ("water resistant", "rubber sole", "anti slip", "faux fur"),
        (COLOR, ("size", SHOES)),
    ),
    Ware(
        "granola bars", "granola bars", "Grocery › Snacks › Bars", (6, 35), FOOD, (("flavor", FLAVORS), ("size", PACKS))
    ),
    Ware("lip balm", "lip balms", "Beauty › Makeup › Lips", (4, 25), (*SKIN, "easy apply"), (("scent", SCENTS),)),
    Ware("nightstand", "nightstands", "Home › Furniture › Nightstands", (39, 199), WOOD, (("color", FINISHES),)),
    Ware(
        "bed frame",
        "bed frames",
        "Home › Furniture › Beds",
        (89, 399),
        (*WOOD, "box spring", "heavy duty"),
        (("color", FINISHES), ("size", BEDS)),
    ),
    Ware(
        "ethernet cable",
        "ethernet cables",
        "Electronics › Cables › Ethernet",
        (5, 45),
        GEAR,
        (COLOR, ("size", LENGTHS)),
    ),
    Ware(
        "computer mouse",
        "computer mice",
        "Electronics › Computers › Mice",
        (9, 79),
        ("plug play", "high precision", "long lasting", "easy carry", "batteries included"),
        (COLOR,),
    ),
)
