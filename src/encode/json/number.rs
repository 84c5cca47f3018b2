//! Numbers, exactly: what a JSON number says becomes a whole number at any scale without a float in between.

use arrow_buffer::i256;

use super::wide;

/// A number as JSON writes it (RFC 8259, section 6), taken apart.
#[derive(Debug, Clone, Copy)]
pub struct Number<'a> {
    pub text: &'a [u8],
    pub negative: bool,
    /// All digits before the exponent as one number; meaningless above 19 of them.
    mantissa: u64,
    /// How many digits there are before the exponent.
    digits: usize,
    /// How many of them stand behind the point.
    fraction: i64,
    exponent: i64,
}

/// A number as most are: without an exponent, with at most 15 digits before the point and 15 behind it. Small enough to
/// stay in registers.
#[derive(Debug, Clone, Copy)]
pub struct Short {
    /// Bytes of it.
    pub len: usize,
    negative: bool,
    /// All digits as one number; meaningless above 19 of them.
    mantissa: u64,
    digits: u32,
    fraction: u32,
}

impl Short {
    /// The number at `at`, eight digits at a step; `None` if it is not quite that, or none at all.
    #[inline(always)]
    pub fn parse(bytes: &[u8], at: usize) -> Option<Short> {
        let negative = bytes.get(at) == Some(&b'-');
        let start = at + usize::from(negative);
        let (mut digits, mut mantissa) = wide::digits(wide::load_word(bytes, start));
        if digits == 8 {
            let (more, low) = wide::digits(wide::load_word(bytes, start + 8));
            digits += more;
            mantissa = mantissa * TEN_TO[more] + low;
        }
        let zero_first = digits > 1 && bytes.get(start) == Some(&b'0');
        if digits == 0 || digits > 15 || zero_first {
            return None;
        }
        let mut end = start + digits;
        let mut fraction = 0;
        let mut behind = bytes.get(end).copied().unwrap_or(0);
        if behind == b'.' {
            end += 1;
            let (count, low) = wide::digits(wide::load_word(bytes, end));
            fraction = count;
            mantissa = mantissa.wrapping_mul(TEN_TO[count]).wrapping_add(low);
            if count == 8 {
                let (more, low) = wide::digits(wide::load_word(bytes, end + 8));
                fraction += more;
                mantissa = mantissa.wrapping_mul(TEN_TO[more]).wrapping_add(low);
            }
            if fraction == 0 || fraction == 16 {
                return None;
            }
            digits += fraction;
            end += fraction;
            behind = bytes.get(end).copied().unwrap_or(0);
        }
        if behind | 0x20 == b'e' {
            return None;
        }
        Some(Short { len: end - at, negative, mantissa, digits: digits as u32, fraction: fraction as u32 })
    }

    /// The value if it is a whole number.
    #[inline(always)]
    pub fn whole(self) -> Option<i64> {
        (self.fraction == 0).then_some(self.signed(self.mantissa))
    }

    /// The value times `10^scale` if that is below 10^`precision` and 10^18, and nothing is cut.
    #[inline(always)]
    pub fn scaled(self, precision: u8, scale: u8) -> Option<i64> {
        let shift = u32::from(scale).checked_sub(self.fraction)?;
        if self.digits + shift > 18 {
            return None;
        }
        // Within 18 digits neither factor nor product comes near 2^63.
        let magnitude = self.mantissa * TEN_TO[shift as usize];
        (magnitude < TEN_TO[usize::from(precision).min(18)]).then_some(self.signed(magnitude))
    }

    /// The nearest float64, if it has at most 19 digits.
    #[inline(always)]
    pub fn f64(self) -> Option<f64> {
        let value = match self.digits {
            // One division of exact floats rounds once (Clinger's fast path).
            ..=15 => self.mantissa as f64 / TENS.get(self.fraction as usize)?,
            16..=19 => nearest(self.mantissa, -i64::from(self.fraction)),
            _ => return None,
        };
        Some(if self.negative { -value } else { value })
    }

    /// The nearest float32, if it has at most 7 digits; exact in 24 bits, as above in 53.
    #[inline(always)]
    pub fn f32(self) -> Option<f32> {
        let value = self.mantissa as f32 / *TENS.get(self.fraction as usize)? as f32;
        (self.digits <= 7).then_some(if self.negative { -value } else { value })
    }

    #[inline(always)]
    fn signed(self, magnitude: u64) -> i64 {
        if self.negative { -(magnitude as i64) } else { magnitude as i64 }
    }
}

/// The magnitude of a number times a power of ten, cut to a whole one: `high * 10^38 + low`, below 10^76.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scaled {
    high: u128,
    low: u128,
    /// Whether nothing but zeros was cut off.
    pub exact: bool,
}

const TEN_37: u128 = 10u128.pow(37);
const TEN_38: u128 = 10u128.pow(38);

impl<'a> Number<'a> {
    /// The number at the beginning of `bytes`, or the offset at which a digit is missing. What follows is not looked at.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Number<'a>, usize> {
        match Short::parse(bytes, 0) {
            Some(Short { len, negative, mantissa, digits, fraction }) => {
                let (digits, fraction) = (digits as usize, fraction as i64);
                Ok(Number { text: &bytes[..len], negative, mantissa, digits, fraction, exponent: 0 })
            }
            None => Number::any(bytes),
        }
    }

    #[inline(never)]
    fn any(bytes: &'a [u8]) -> Result<Number<'a>, usize> {
        let negative = bytes.first() == Some(&b'-');
        let start = usize::from(negative);
        let mut at = start;
        let mut mantissa = 0u64;
        let mut take_digits = |at: &mut usize| {
            let from = *at;
            while let Some(digit) = bytes.get(*at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
                mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
                *at += 1;
            }
            *at - from
        };
        let mut digits = match bytes.get(at) {
            Some(b'0') => {
                at += 1;
                1
            }
            _ => take_digits(&mut at),
        };
        if digits == 0 {
            return Err(at);
        }
        let mut fraction = 0;
        if bytes.get(at) == Some(&b'.') {
            at += 1;
            fraction = take_digits(&mut at);
            if fraction == 0 {
                return Err(at);
            }
            digits += fraction;
        }
        let mut exponent = 0i64;
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            at += 1;
            let minus = bytes.get(at) == Some(&b'-');
            at += usize::from(matches!(bytes.get(at), Some(b'-' | b'+')));
            let from = at;
            while let Some(digit) = bytes.get(at).filter(|byte| byte.is_ascii_digit()) {
                // Far beyond any length of text, so that saturating changes no outcome.
                exponent = (exponent * 10 + i64::from(digit - b'0')).min(1 << 40);
                at += 1;
            }
            if at == from {
                return Err(at);
            }
            exponent = if minus { -exponent } else { exponent };
        }
        Ok(Number { text: &bytes[..at], negative, mantissa, digits, fraction: fraction as i64, exponent })
    }

    /// The number that is all of `bytes`, or `None`.
    pub fn whole_text(bytes: &'a [u8]) -> Option<Number<'a>> {
        Number::parse(bytes).ok().filter(|number| number.text.len() == bytes.len())
    }

    /// The value if it is a whole number within i128, however it is written (`1e3`, `5.0`).
    #[inline]
    pub fn whole(&self) -> Option<i128> {
        if self.fraction == 0 && self.exponent == 0 && self.digits <= 19 {
            let magnitude = i128::from(self.mantissa);
            return Some(if self.negative { -magnitude } else { magnitude });
        }
        self.scaled(0).filter(|scaled| scaled.exact)?.i128(self.negative)
    }

    /// The magnitude times `10^scale`, cut to a whole number; `None` from 10^76 on.
    pub fn scaled(&self, scale: i64) -> Option<Scaled> {
        let shift = self.exponent - self.fraction + scale;
        if self.digits <= 19 && (0..=18).contains(&shift) {
            let low = u128::from(self.mantissa) * 10u128.pow(shift as u32);
            return Some(Scaled { high: 0, low, exact: true });
        }
        let kept = self.digits as i64 + shift.min(0);
        let mut scaled = Scaled { high: 0, low: 0, exact: true };
        let digits = self.text.iter().filter(|byte| byte.is_ascii_digit()).take(self.digits);
        for (index, digit) in digits.enumerate() {
            let digit = u128::from(digit - b'0');
            if (index as i64) < kept {
                scaled.push(digit)?;
            } else {
                scaled.exact &= digit == 0;
            }
        }
        if (scaled.high, scaled.low) == (0, 0) {
            return Some(scaled);
        }
        for _ in 0..shift.max(0) {
            scaled.push(0)?;
        }
        Some(scaled)
    }

    /// Whether it is written as a whole number, and a float64 cannot hold it exactly.
    pub fn is_rounded(&self) -> bool {
        let exact = |whole: i128| self.f64().is_some_and(|float| float as i128 == whole);
        self.fraction == 0 && self.exponent == 0 && self.digits > 15 && !self.whole().is_some_and(exact)
    }

    /// The nearest float64; `None` if that is infinite.
    #[inline]
    pub fn f64(&self) -> Option<f64> {
        let shift = self.exponent - self.fraction;
        if self.digits <= 15 && (-22..=22).contains(&shift) {
            // Both are exact floats, so that one operation rounds once (Clinger's fast path).
            let power = TENS[shift.unsigned_abs() as usize];
            let magnitude = self.mantissa as f64;
            let value = if shift < 0 { magnitude / power } else { magnitude * power };
            return Some(if self.negative { -value } else { value });
        }
        if self.digits <= 19 && (-19..=19).contains(&shift) {
            let magnitude = nearest(self.mantissa, shift);
            return Some(if self.negative { -magnitude } else { magnitude });
        }
        self.str()?.parse().ok().filter(|value: &f64| value.is_finite())
    }

    /// The nearest float32; `None` if that is infinite.
    pub fn f32(&self) -> Option<f32> {
        let shift = self.exponent - self.fraction;
        if self.digits <= 7 && (-10..=10).contains(&shift) {
            // Exact in 24 bits, as above in 53.
            let (magnitude, power) = (self.mantissa as f32, TENS[shift.unsigned_abs() as usize] as f32);
            let value = if shift < 0 { magnitude / power } else { magnitude * power };
            return Some(if self.negative { -value } else { value });
        }
        self.str()?.parse().ok().filter(|value: &f32| value.is_finite())
    }

    fn str(&self) -> Option<&'a str> {
        std::str::from_utf8(self.text).ok()
    }
}

/// The float64 nearest to `mantissa * 10^shift`, by whole numbers: for any mantissa, and a shift from -19 to 19.
#[inline(never)]
fn nearest(mantissa: u64, shift: i64) -> f64 {
    let power = TEN_TO[shift.unsigned_abs() as usize];
    if shift >= 0 {
        // Rust rounds whole numbers to the nearest float, ties to even, as the value itself would be.
        return (u128::from(mantissa) * u128::from(power)) as f64;
    }
    if mantissa == 0 {
        return 0.0;
    }
    // The quotient has 63 or 64 bits when the mantissa begins as many bits above the power: enough that its last bit lies
    // below where a float is rounded, and can stand for all that the division leaves.
    let bits = 63 + mantissa.leading_zeros() - power.leading_zeros();
    let dividend = u128::from(mantissa) << bits;
    let quotient = (dividend / u128::from(power)) as u64;
    let exact = u128::from(quotient) * u128::from(power) == dividend;
    let sticky = quotient | u64::from(!exact);
    // A power of two, and no result is near the least float: exact.
    sticky as f64 * f64::from_bits(u64::from(1023 - bits) << 52)
}

/// Powers of ten that fit.
pub const TEN_TO: [u64; 20] = {
    let mut powers = [1; 20];
    let mut index = 1;
    while index < 20 {
        powers[index] = powers[index - 1] * 10;
        index += 1;
    }
    powers
};

const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

impl Scaled {
    fn push(&mut self, digit: u128) -> Option<()> {
        if self.high >= TEN_37 {
            return None;
        }
        self.high = self.high * 10 + self.low / TEN_37;
        self.low = self.low % TEN_37 * 10 + digit;
        Some(())
    }

    /// With its sign, if it is below 10^38.
    pub fn i128(&self, negative: bool) -> Option<i128> {
        let magnitude = i128::try_from(self.low).ok().filter(|_| self.high == 0)?;
        Some(if negative { -magnitude } else { magnitude })
    }

    /// With its sign.
    pub fn i256(&self, negative: bool) -> i256 {
        let part = |part: u128| i256::from_parts(part, 0);
        let magnitude = part(self.high).wrapping_mul(part(TEN_38)).wrapping_add(part(self.low));
        if negative { magnitude.wrapping_neg() } else { magnitude }
    }

    /// Whether the magnitude has at most `precision` digits (1 to 76).
    pub fn fits(&self, precision: u8) -> bool {
        match u32::from(precision) {
            digits @ 0..38 => self.high == 0 && self.low < 10u128.pow(digits),
            digits => self.high < 10u128.pow((digits - 38).min(38)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(text: &str) -> Number<'_> {
        Number::whole_text(text.as_bytes()).unwrap_or_else(|| panic!("{text} is a number"))
    }

    #[test]
    fn only_what_json_calls_a_number_is_one() {
        for text in ["0", "-0", "12", "1.5", "1e3", "1E+3", "-1.25e-300", "0e0", "0.0"] {
            number(text);
        }
        for text in ["", "-", "01", "+1", "1.", ".5", "1e", "1e+", "0x1", "NaN", "1 ", " 1", "1_000", "--1", "Infinity"]
        {
            assert!(Number::whole_text(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn whole_numbers_are_whole_however_they_are_written() {
        for (text, value) in [
            ("18446744073709551615", Some(u64::MAX.into())),
            ("-9223372036854775808", Some(i64::MIN.into())),
            ("9007199254740993", Some(9_007_199_254_740_993)),
            ("-0", Some(0)),
            ("1.0", Some(1)),
            ("1e3", Some(1000)),
            ("12.50e1", Some(125)),
            ("1000e-3", Some(1)),
            ("0e999999999999", Some(0)),
            ("0.000e-99999999999999999999", Some(0)),
            ("1.5", None),
            ("1e-1", None),
            ("1e999999999999", None),
            ("1e-999999999999", None),
            ("99999999999999999999999999999999999999", Some(10i128.pow(38) - 1)),
            ("100000000000000000000000000000000000000", None),
        ] {
            assert_eq!(number(text).whole(), value, "{text}");
        }
    }

    #[test]
    fn seventy_six_digits_are_exact() {
        let nines = "9".repeat(76);
        let scaled = number(&nines).scaled(0).unwrap();
        assert_eq!(scaled.i256(false), i256::from_string(&nines).unwrap());
        assert_eq!(scaled.i256(true), i256::from_string(&format!("-{nines}")).unwrap());
        assert!(scaled.fits(76) && !scaled.fits(75));
        assert_eq!(number(&"9".repeat(77)).scaled(0), None);
        let point = format!("{}.{}", "9".repeat(40), "9".repeat(36));
        assert_eq!(number(&point).scaled(36), Some(scaled));
        assert!(!number(&point).scaled(35).unwrap().exact);
    }

    #[test]
    fn floats_are_the_nearest() {
        for text in
            ["0.1", "-0", "123456.789e-5", "5e-324", "1.7976931348623157e308", "9007199254740993", "1e22", "1e23"]
        {
            assert_eq!(number(text).f64().unwrap().to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
            if text.parse::<f32>().unwrap().is_finite() {
                assert_eq!(number(text).f32().unwrap().to_bits(), text.parse::<f32>().unwrap().to_bits(), "{text}");
            }
        }
        assert_eq!(number("1e309").f64(), None);
        assert_eq!(number("-1e39").f32(), None);
    }

    proptest! {
        #[test]
        fn scaling_is_what_string_arithmetic_says(digits in "[1-9][0-9]{0,75}", point in 0usize..76, scale in 0i64..40) {
            let (whole, fraction) = digits.split_at(point.min(digits.len() - 1).max(1).min(digits.len()));
            let text = if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") };
            let padded = format!("{fraction}{}", "0".repeat(40));
            let expected = format!("{whole}{}", &padded[..scale as usize]);
            let scaled = number(&text).scaled(scale);
            match i256::from_string(&expected).filter(|_| expected.len() <= 76) {
                None => prop_assert_eq!(scaled, None),
                Some(value) => {
                    let scaled = scaled.unwrap();
                    prop_assert_eq!(scaled.i256(false), value);
                    prop_assert_eq!(scaled.exact, padded[scale as usize..].bytes().all(|b| b == b'0'));
                    prop_assert!(scaled.fits(expected.len() as u8));
                    prop_assert!(expected.len() == 1 || !scaled.fits(expected.len() as u8 - 1));
                }
            }
        }

        #[test]
        fn floats_of_up_to_nineteen_digits_are_the_nearest(mantissa in any::<u64>(), cut in 0u32..64, shift in -25i64..25) {
            let mantissa = mantissa >> cut;
            let digits = format!("{mantissa:019}");
            let point = (digits.len() as i64 + shift.min(0)).max(1) as usize;
            let plain = format!("{}.{}", &digits[..point], &digits[point..]);
            let plain = plain.trim_start_matches('0').trim_end_matches('.');
            for text in [format!("{mantissa}e{shift}"), format!("0{plain}").replace("0.", "0.0")] {
                let Some(number) = Number::whole_text(text.as_bytes()) else { continue };
                prop_assert_eq!(number.f64().map(f64::to_bits), text.parse::<f64>().ok().map(f64::to_bits), "{}", text);
                let nearest = text.parse::<f32>().ok().filter(|value| value.is_finite());
                prop_assert_eq!(number.f32().map(f32::to_bits), nearest.map(f32::to_bits), "{}", text);
            }
        }

        #[test]
        fn the_short_way_reads_what_the_long_way_reads(text in "-?[0-9]{0,18}(\\.[0-9]{0,18})?([eE][+-]?[0-9]{0,2})?[,} x0-9.]{0,9}") {
            let parts = |number: Number| (number.text.to_vec(), number.negative, number.digits, number.fraction, number.exponent, number.mantissa);
            if let Some(short) = Short::parse(text.as_bytes(), 0) {
                let long = Number::any(text.as_bytes()).unwrap();
                let text = std::str::from_utf8(long.text).unwrap();
                prop_assert_eq!(short.len, text.len());
                prop_assert!(short.f64().is_none_or(|value| value.to_bits() == text.parse::<f64>().unwrap().to_bits()));
                prop_assert!(short.f32().is_none_or(|value| value.to_bits() == text.parse::<f32>().unwrap().to_bits()));
                prop_assert!(short.whole().is_none_or(|value| long.whole() == Some(value.into())));
                for (precision, scale) in [(18, 2), (4, 2), (38, 10), (1, 0)] {
                    let scaled = long.scaled(scale.into()).filter(|scaled| scaled.exact && scaled.fits(precision));
                    let expected = scaled.and_then(|scaled| scaled.i128(long.negative));
                    prop_assert!(short.scaled(precision, scale).is_none_or(|value| Some(value.into()) == expected));
                }
            }
            let (one, other) = (Number::parse(text.as_bytes()), Number::any(text.as_bytes()));
            prop_assert_eq!(one.map(parts), other.map(parts));
        }

        #[test]
        fn every_float_comes_back(value in any::<f64>().prop_filter("finite", |value| value.is_finite())) {
            for text in [format!("{value}"), format!("{value:e}")] {
                prop_assert_eq!(number(&text).f64().unwrap().to_bits(), value.to_bits());
            }
        }
    }
}
