"""Linear attenuation in 1/mm at 60 keV, the effective energy of a 100 kV beam.

Mass attenuation in cm^2/g (NIST XCOM; tissues of ICRU-44), times density in g/cm^3,
over 10. Trabecular bone is marrow with a quarter of its volume cortical bone.
"""

MUSCLE = 0.2048 * 1.05 / 10
FAT = 0.1974 * 0.95 / 10
CORTEX = 0.3148 * 1.92 / 10
TRABECULAR = 0.0325
TITANIUM = 0.7661 * 4.51 / 10
STEEL = 1.205 * 7.87 / 10
