"""Settings of trained methods that take moments."""

QUICK = {
    "ape": ("ape(steps=3,hidden=16)", "ape(steps=4,hidden=8)"),
    "fusemix": ("fusemix(epochs=2,width=8,blocks=1)",),
    "freeze-align": ("freeze-align(epochs=2,width=8)",),
}
