"""Words on widgets. Pools share no word, so that what a template puts beside its widgets repeats none of them."""

from __future__ import annotations

COMMANDS = (
    "Page setup", "Print", "Undo", "Redo", "Cut", "Copy", "Paste", "Find", "Replace", "Zoom in", "Zoom out", "Bold",
    "Italic", "Align left", "Rotate", "Crop", "Duplicate", "Group", "Preview", "Underline",
)  # fmt: skip
MENUS = ("File", "View", "Insert", "Format", "Tools", "Window", "Help", "Layout", "Review", "References")
FOLDERS = (
    "Documents", "Pictures", "Music", "Videos", "Desktop", "Projects", "Archive", "Invoices", "Letters", "Backups",
    "Recipes", "Travel", "School", "Taxes", "Drafts", "Sent", "Junk", "Contracts",
)  # fmt: skip
SETTINGS = (
    "Wi-Fi", "Bluetooth", "Display", "Sound", "Battery", "Storage", "Privacy", "Printers", "Language", "Keyboard",
    "Date and time", "Accessibility", "Location", "Updates", "Fonts", "Wallpaper", "Hotspot", "Airplane mode",
)  # fmt: skip
PEOPLE = (
    "Ada Okafor", "Ben Novak", "Chiara Rossi", "Dmitri Ivanov", "Elif Kaya", "Farid Haddad", "Grace Kim", "Hugo Silva",
    "Ines Moreau", "Jonas Weber", "Kavya Nair", "Liam Byrne", "Mei Tanaka", "Noor Aziz", "Olga Petrova", "Pablo Cruz",
)  # fmt: skip
GOODS = (
    "Oak table", "Desk lamp", "Wool blanket", "Tea kettle", "Bread knife", "Garden chair", "Road bicycle", "Tent",
    "Rain coat", "Hiking boots", "Water bottle", "Chess set", "Paint brushes", "Wall mirror", "Coffee grinder", "Rug",
)  # fmt: skip
SECTIONS = (
    "Overview", "Orders", "Customers", "Products", "Warehouse", "Marketing", "Payments", "Discounts", "Reports",
    "Shipping", "Returns", "Team", "Billing", "Security", "Events", "Suppliers",
)  # fmt: skip
ANSWERS = ("Cancel", "Apply", "Continue", "Skip", "Accept", "Decline", "Submit", "Reset", "Finish", "Later")
SONGS = (
    "Morning rain", "Paper boats", "Northern line", "Glass hills", "Slow river", "Blue lanterns", "Second winter",
    "Salt and stone", "Old radio", "Summer attic", "Quiet engine", "Long shadows",
)  # fmt: skip
SIGNS = ("Go", "Stop", "Menu", "Next", "Yes", "No", "Call", "Pay")
FILLER = (
    "lorem", "harbour", "pattern", "signal", "meadow", "bridge", "copper", "lantern", "orbit", "velvet", "granite",
    "ripple", "timber", "saffron", "cobble", "quill",
)  # fmt: skip
