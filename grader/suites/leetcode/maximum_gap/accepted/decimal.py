"""Radix sort with ten lists, as with cards on a table."""


def maximum_gap(nums):
    if len(nums) < 2:
        return 0
    offset = min(nums)
    cards = [x - offset for x in nums]
    power, top = 1, max(cards)
    while power <= top:
        piles = [[] for _ in range(10)]
        for card in cards:
            piles[card // power % 10].append(card)
        cards = [card for pile in piles for card in pile]
        power *= 10
    gap = 0
    for i in range(1, len(cards)):
        gap = max(gap, cards[i] - cards[i - 1])
    return gap
